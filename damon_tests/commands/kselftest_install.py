# SPDX-License-Identifier: GPL-2.0
"""``damon-tests kselftest-install DIR``: a directory that a kernel tree's kselftest runs.

    damon-tests kselftest-install LINUX/tools/testing/selftests/damon-tests
    make -C LINUX/tools/testing/selftests TARGETS=damon-tests run_tests

One wrapper for each suite runs ``damon-tests run`` and prints its KTAP, one line for each test. It translates
exit codes, which mean something else to kselftest (4 is a skip there, a usage error of pytest here).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from damon_tests import bundle
from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.ports import UsageError, output_file

COMMON = "run_suite.sh"
TIMEOUT_S = 7200
"""Of a wrapper: a suite takes minutes on hardware, and up to an hour under emulation."""

_HEAD = "# SPDX-License-Identifier: GPL-2.0\n# Written by damon-tests kselftest-install.\n"

_MAKEFILE = """\
# Nothing is compiled here: damon-tests brings its own programs.

TEST_PROGS := {programs}
TEST_FILES := {common}

include ../lib.mk
"""

_SETTINGS = "timeout={timeout_s}\n"

# What the suites use; what is missing is skipped, and named.
_CONFIG = """\
CONFIG_DAMON=y
CONFIG_DAMON_VADDR=y
CONFIG_DAMON_PADDR=y
CONFIG_DAMON_SYSFS=y
CONFIG_DAMON_RECLAIM=y
CONFIG_DAMON_LRU_SORT=y
CONFIG_DAMON_STAT=y
CONFIG_FTRACE=y
CONFIG_PROC_PAGE_MONITOR=y
CONFIG_MEMCG=y
CONFIG_NUMA=y
CONFIG_MIGRATION=y
CONFIG_TRANSPARENT_HUGEPAGE=y
CONFIG_PSI=y
CONFIG_SWAP=y
CONFIG_ZRAM=m
"""

_WRAPPER = """\
#!/bin/sh
{head}
# shellcheck source=/dev/null
. ./{common}
run_suite {suite}
"""

_COMMON = """\
{head}#
# The environment may set: DAMON_TESTS (the command), DAMON_TESTS_KERNEL, DAMON_TESTS_PROFILE,
# DAMON_TESTS_OPTIONS (more options of damon-tests run), DAMON_TESTS_OUTPUT (a directory for the results).

KSFT_PASS=0
KSFT_FAIL=1
KSFT_SKIP=4

skip_all()
{{
	echo "KTAP version 1"
	echo "1..0 # SKIP $1"
	exit $KSFT_SKIP
}}

run_suite()
{{
	damon_tests=${{DAMON_TESTS:-{command}}}
	command -v "$damon_tests" >/dev/null 2>&1 ||
		skip_all "the command $damon_tests is not installed (DAMON_TESTS names another)"
	kernel=${{DAMON_TESTS_KERNEL:-{kernel}}}
	output=${{DAMON_TESTS_OUTPUT:-$(mktemp -d)}}
	# What it prints while it runs are comments of KTAP.
	# shellcheck disable=SC2086  # options are several words
	{{
		"$damon_tests" run --kernel="$kernel" \\
			--profile="${{DAMON_TESTS_PROFILE:-{profile}}}" --output="$output/$1" --overwrite \\
			--ktap="$output/$1.ktap" ${{DAMON_TESTS_OPTIONS:-}} "suites/$1" 2>&1
		echo $? >"$output/$1.code"
	}} | while IFS= read -r line; do
		[ -z "$line" ] || printf '# %s\\n' "$line"
	done
	code=$(cat "$output/$1.code")
	if [ -s "$output/$1.ktap" ]; then
		cat "$output/$1.ktap"
	elif [ "$code" = 5 ]; then
		skip_all "no test of suites/$1 could run"
	fi
	# damon-tests: 0 good, 5 nothing ran; all else stops a gate.
	if [ -z "${{DAMON_TESTS_OUTPUT:-}}" ] && {{ [ "$code" = 0 ] || [ "$code" = 5 ]; }}; then
		rm -rf "$output"
	fi
	case $code in
	0) exit $KSFT_PASS ;;
	5) exit $KSFT_SKIP ;;
	*) exit $KSFT_FAIL ;;
	esac
}}
"""


def install(
    directory: Path, kernel: str = "host", profile: str = "quick", command: str = "damon-tests"
) -> int:
    """Write the directory and say how to run it; 0.

    ``kernel``: tested by default, as for ``run``; kselftest tests the running one. ``command``: how
    ``damon-tests`` is called. Raises UsageError for an unknown kernel, and for a directory that has files of
    others.
    """
    contents = files(_anywhere(kernel), profile, command)
    others = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    foreign = [name for name in others if name not in contents]
    if foreign:
        raise UsageError(
            f"{directory}: has files of others ({', '.join(sorted(foreign)[:3])}); give a new directory"
        )
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        path = directory / name
        output_file.write_text(path, text)
        path.chmod(0o755 if text.startswith("#!") else 0o644)
    print(f"{directory}: {len(contents)} files")
    print(f"Run  make -C {shlex.quote(str(directory.parent))} TARGETS={directory.name} run_tests")
    return 0


def _anywhere(kernel: str) -> str:
    """Return the kernel with absolute paths: kselftest runs in another directory. Raises UsageError."""
    request = KernelRequest(kernel)
    request.check()
    if request.is_host or request.is_reference or kernel.startswith("debian:"):
        return kernel
    paths = kernel.split(",modules=")
    return ",modules=".join(str(Path(path).expanduser().absolute()) for path in paths)


def files(kernel: str, profile: str, command: str) -> Mapping[str, str]:
    """Return the content of each file."""
    suites = sorted(path.name for path in bundle.suites_dir().iterdir() if any(path.glob("test_*.py")))
    programs = {f"{suite}.sh": _WRAPPER.format(head=_HEAD, common=COMMON, suite=suite) for suite in suites}
    settings = {"head": _HEAD, "kernel": shlex.quote(kernel), "profile": profile, "command": command}
    return {
        "Makefile": _HEAD + _MAKEFILE.format(programs=" ".join(programs), common=COMMON),
        "settings": _SETTINGS.format(timeout_s=TIMEOUT_S),
        "config": _CONFIG,
        COMMON: _COMMON.format(**settings),
        **programs,
    }
