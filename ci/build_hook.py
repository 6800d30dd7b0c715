# SPDX-License-Identifier: GPL-2.0
"""The wheel's build step: build the C programs, and bundle what a checkout has beside the package.

``damon_tests/bundle.py`` finds these files under ``damon_tests/_bundle/``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_BUNDLED = (
    "suites",
    "workloads/patterns",
    "workloads/programs",
    "workloads/src",
    "ci/kconfig",
    "kselftest_compat/shims",
)
_PROGRAMS = "workloads/build"


class BundleHook(BuildHookInterface):  # type: ignore[type-arg]  # its type parameter is internal to hatchling
    """The hook that hatchling calls for ``[tool.hatch.build.targets.wheel.hooks.custom]``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the bundle to ``build_data``; an editable install reads the checkout itself.

        Raises:
            RuntimeError: there is a compiler, but the C programs do not build.
        """
        if version == "editable":
            return
        root = Path(self.root)
        bundled = [root / name for name in _BUNDLED if (root / name).exists()]
        if self._build_programs(root / "workloads" / "src"):
            # Only programs: the directory also has locks and half-built files.
            bundled += sorted(p for p in (root / _PROGRAMS).glob("damon-tests-*") if not p.suffix)
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform_tag()}"
        for path in bundled:
            build_data["force_include"][str(path)] = f"damon_tests/_bundle/{path.relative_to(root)}"

    def _build_programs(self, source: Path) -> bool:
        """Build the programs; return whether there are any to ship. Without a compiler, warn: ship none."""
        compiler = os.environ.get("CC", "cc").split()[0]
        missing = [tool for tool in ("make", compiler) if shutil.which(tool) is None]
        if missing:
            self.app.display_warning(
                f"the wheel has no workload engine and no guest agent: {' and '.join(missing)} missing here; "
                "tests that need them will be skipped (on Debian: apt-get install gcc make libc6-dev)"
            )
            return False
        made = subprocess.run(["make", "--silent", "-C", str(source)], check=False)
        if made.returncode != 0:
            raise RuntimeError(
                f"the C programs in {source} do not build (see above); they are linked statically, "
                "which needs libc.a (Debian: libc6-dev, Fedora: glibc-static)"
            )
        return True


def _platform_tag() -> str:
    """Return the platform tag, such as ``linux_x86_64``: static programs depend only on the architecture."""
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
