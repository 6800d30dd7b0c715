# SPDX-License-Identifier: GPL-2.0
"""Opening a kernel: what is missing is said before anything is downloaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from damon_tests import bundle
from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.experiment.open_backend import open_backend
from damon_tests.kernel.images import image
from damon_tests.ports import NotSupported


def test_without_a_compiler_no_kernel_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(spec: str) -> None:
        raise AssertionError(f"{spec} was looked for")

    monkeypatch.setattr(image, "resolve", resolve)
    monkeypatch.setattr(bundle, "programs_dir", lambda: tmp_path / "build")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    request = KernelRequest("debian:7.3")
    with (
        pytest.raises(NotSupported, match="damon-tests-agent is not built, and there is no make"),
        open_backend(request, tmp_path),
    ):
        pass
