# SPDX-License-Identifier: GPL-2.0
"""``damon-tests defects``: the defects of a kernel, as a table and for programs."""

from __future__ import annotations

import json

import pytest

from damon_tests.cli import main
from damon_tests.damon.known_defects import the_table


def keys(kernel: str | None, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["defects", "--json", *(["--kernel", kernel] if kernel else [])]) == 0
    return [row["key"] for row in json.loads(capsys.readouterr().out)]


def test_without_a_kernel_all_defects_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert keys(None, capsys) == list(the_table())


def test_only_defects_of_the_release_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    early, late = keys("6.12.107", capsys), keys("6.12.117+deb13-cloud-amd64", capsys)
    assert "age-per-merge-pass" in early
    assert "age-per-merge-pass" not in late
    assert "age-per-merge-pass" in keys("6.12", capsys)


def test_the_reference_has_only_what_a_series_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(keys("reference:7.0", capsys)) < set(keys("7.0", capsys))
    assert keys("reference:7.3", capsys) == []


def test_the_table_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["defects", "--kernel", "7.0"]) == 0
    out = capsys.readouterr().out
    assert "commit-begins-charge-window" in out.replace("\n", "")
    assert max(map(len, out.splitlines())) <= 120


def test_an_unknown_series_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["defects", "--kernel", "5.4"]) == 2
    assert "5.4" in capsys.readouterr().err
