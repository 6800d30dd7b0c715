# SPDX-License-Identifier: GPL-2.0
"""A run as JSON of KCIDB, the database of kernel test results (schema 5.3 of the package kcidb-io).

A CI system that built the kernel has reported its build already: it gives that build's id. Without one, the
report has a build of its own for each kernel, named after its release.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from damon_tests.ports import UsageError, output_file
from damon_tests.report import wording
from damon_tests.report.mail_kernels import provenance_of

ORIGIN = "damon_tests"
VERSION = {"major": 5, "minor": 3}

# INCONCLUSIVE: it ended and says neither that the code is right nor that it is wrong. XFAIL fails as known.
_STATUS = {
    "PASS": "PASS",
    "FAIL": "FAIL",
    "XFAIL": "FAIL",
    "XPASS": "FAIL",
    "SKIP": "SKIP",
    "INCONCLUSIVE": "DONE",
    "ERROR": "ERROR",
}
_EXCERPT_CHARACTERS = 4000
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")

Json = dict[str, Any]


def save(run: Mapping[str, Any], path: Path, build: str = "", origin: str = ORIGIN) -> None:
    """Write ``path``. Raises OSError, UsageError for ids that KCIDB does not take."""
    output_file.write_text(path, json.dumps(report(run, build, origin), indent=1) + "\n")


def report(run: Mapping[str, Any], build: str = "", origin: str = ORIGIN) -> Json:
    """Return the report. ``build``: id of a build that is reported elsewhere. Raises UsageError."""
    if not re.fullmatch(r"[a-z0-9_]+", origin):
        raise UsageError(f"{origin!r} is no origin for KCIDB: use lower-case letters, digits and _")
    if build and not re.fullmatch(r"[a-z0-9_]+:[^\0]+", build):
        raise UsageError(f"{build!r} is no build id of KCIDB: it is the origin, a colon, and a name")
    kernels = list(dict.fromkeys(test["backend"] for test in run["tests"]))
    builds = {kernel: build or f"{origin}:{_kernel_name(run, kernel)}" for kernel in kernels}
    result: Json = {"version": VERSION}
    if not build:
        checkouts = {kernel: f"{origin}:source of {_kernel_name(run, kernel)}" for kernel in kernels}
        result["checkouts"] = [
            {"id": checkouts[kernel], "origin": origin, "git_commit_name": _kernel_name(run, kernel)}
            for kernel in kernels
        ]
        result["builds"] = [
            {
                "id": builds[kernel],
                "checkout_id": checkouts[kernel],
                "origin": origin,
                "architecture": _architecture(run, kernel),
                "status": "PASS",
                "comment": kernel,
            }
            for kernel in kernels
        ]
    result["tests"] = list(_tests(run, builds, origin))
    return result


def _tests(run: Mapping[str, Any], builds: Mapping[str, str], origin: str) -> Iterator[Json]:
    for test in run["tests"]:
        key = f"{run['started']} {test['backend']} {test['id']}"
        entry: Json = {
            "id": f"{origin}:{hashlib.sha256(key.encode()).hexdigest()[:32]}",
            "build_id": builds[test["backend"]],
            "origin": origin,
            "path": path_of(test["id"]),
            "status": _STATUS[test["verdict"]],
            "start_time": datetime.fromtimestamp(test["started"], UTC).isoformat(),
            "duration": test["duration_s"],
            "comment": _clean(f"{test['verdict']}: {test['reason']}"),
            "environment": {"comment": _clean(_machine(run))},
            "misc": {
                "verdict": test["verdict"],
                "kernel": test["backend"],
                "judged_as": test["level"],
                "rerun": wording.rerun(run, test),
            },
        }
        evidence = "\n".join(
            f"{wording.check_line(c)}, because {wording.because(c)}" for c in wording.unmet(test)
        )
        if evidence:
            entry["log_excerpt"] = _clean(evidence[:_EXCERPT_CHARACTERS])
        yield entry


def path_of(test_id: str) -> str:
    """Return a test's place in KCIDB's tree of tests: "damon.monitoring.test_ageing.test_idle_…"."""
    file, _, name = test_id.partition("::")
    parts = [part for part in file.removesuffix(".py").split("/") if part not in ("", "suites")]
    return ".".join(["damon", *(_UNSAFE.sub("_", part).strip("_") for part in (*parts, name) if part)])


def _kernel_name(run: Mapping[str, Any], kernel: str) -> str:
    """Return the release of the kernel where the run has it, else the word given to --kernel."""
    provenances = run["provenance"].get("merged", [run["provenance"]])
    releases = [p.get("kernel", {}).get("release") for p in provenances if isinstance(p.get("kernel"), dict)]
    if len(releases) == 1 and releases[0]:
        return str(releases[0])
    return _clean(kernel)


def _architecture(run: Mapping[str, Any], kernel: str) -> str:
    """Return the guest's processor, else this machine's, as ``uname -m`` names it."""
    return str(provenance_of(run, kernel).get("kernel", {}).get("arch") or platform.machine())


def _machine(run: Mapping[str, Any]) -> str:
    kernel = run["provenance"].get("kernel", {})
    words_ = [str(kernel[name]) for name in ("kind", "accel", "cpus", "memory_mib") if kernel.get(name)]
    return "damon-tests " + (" ".join(words_) or "merged runs")


def _clean(text: str) -> str:
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
