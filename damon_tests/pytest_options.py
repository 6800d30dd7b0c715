# SPDX-License-Identifier: GPL-2.0
"""pytest options of DAMON tests: what they are, which go together, and where results go."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from damon_tests.arguments.values import GUEST_KERNELS, budget_s, parts
from damon_tests.experiment import allowed_skips
from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.judge.cost import budget
from damon_tests.kernel.guest.topology import parse_memory
from damon_tests.ports import UsageError, output_file
from damon_tests.report import run_directory

_MOST_WORKERS = 8  # for each processor

USUAL_SEED = 1
"""The seed of runs by hand, which are repeated to look at the same thing again."""

OUTPUT = "damon_output"
"""What xdist's workers are given: the directory of the run."""


def add_options(parser: pytest.Parser) -> None:
    """Add the options of DAMON tests to pytest's."""
    group = parser.getgroup("damon", "DAMON tests")
    group.addoption(
        "--kernel",
        default="reference",
        metavar="K",
        help=f"reference[:LEVEL] (default), host, {GUEST_KERNELS}",
    )
    group.addoption("--level", metavar="L", help="judge as this kernel series (default: found out)")
    group.addoption("--profile", choices=("quick", "full"), default="full")
    group.addoption("--output", metavar="DIR", help="where results go (default: a new directory)")
    group.addoption("--overwrite", action="store_true", help="replace the results that --output holds")
    group.addoption(
        "--seed",
        type=int,
        metavar="N",
        help=f"seed of the run (default: {USUAL_SEED}; fresh where CI is set)",
    )
    group.addoption(
        "--budget", type=budget_s, default=0.0, metavar="T", help="also draw cases for so long, as 90s or 2h"
    )
    group.addoption("--fault", metavar="NAME", help="make the reference wrong on purpose: who notices?")
    group.addoption("--budgets", metavar="FILE", help="limits on cost that come before ours (YAML)")
    group.addoption("--stop-modules", action="store_true", help="of --kernel host, and restore them")
    group.addoption("--keep-guest", action="store_true", help="one guest for all tests")
    group.addoption("--guest-clock", choices=("instructions", "host"), help="what time emulated guests see")
    group.addoption("--append", metavar="PARAMETERS", help="more parameters for the kernel of a guest")
    group.addoption("--memory", metavar="SIZE", help="memory of a guest, at least (default: 1G)")
    group.addoption("--cpus", type=int, metavar="N", help="CPUs of a guest, at least (default: 2)")
    group.addoption("--numa", type=int, metavar="N", help="memory nodes of a guest, at least (default: 1)")
    group.addoption("--require", action="store_true", help="a test that cannot run fails")
    group.addoption(
        "--allow-skips", metavar="FILE", help="a test that cannot run fails, unless FILE allows it (YAML)"
    )
    group.addoption("--shard", metavar="I/N", help="the I-th of N parts of the tests")
    group.addoption("--ktap", metavar="FILE", help="also write the results as KTAP")
    group.addoption("--first", metavar="FILE", help="test ids, one a line: these run first, in this order")
    group.addoption("--until-fail", action="store_true", help="end with the first verdict FAIL")


def choose_seed(option: Any, environment: Mapping[str, str]) -> None:
    """Set the seed that was not given: in CI one that changes from run to run, so that each draws anew.

    It is printed in the command that repeats a test.
    """
    if option.seed is None:
        option.seed = secrets.randbelow(1 << 31) + 1 if environment.get("CI") else USUAL_SEED


def kernel_request(option: Any) -> KernelRequest:
    """Return which DAMON the command line asks for."""
    return KernelRequest(
        kernel=option.kernel,
        level=option.level,
        fault=option.fault,
        stop_modules=option.stop_modules,
        keep_guest=option.keep_guest,
        guest_clock=option.guest_clock,
        append=tuple((option.append or "").split()),
        memory_mib=None if option.memory is None else parse_memory(option.memory),
        cpus=option.cpus,
        numa_nodes=option.numa,
    )


def check(option: Any) -> None:
    """Before tests are collected, or workers started: what cannot work is said at once. Raises UsageError."""
    request = kernel_request(option)
    request.check()
    request.expect_machine()  # what is collected asks for it
    shard(option)
    if option.ktap is not None:
        output_file.check_writable(Path(option.ktap))
    if option.budgets is not None:
        budget.load(Path(option.budgets))
    if option.allow_skips is not None:
        if option.require:
            raise UsageError("--allow-skips is --require with exceptions: give one of them")
        allowed_skips.load(Path(option.allow_skips))
    if option.first is not None and not Path(option.first).is_file():
        raise UsageError(f"--first {option.first}: there is no such file")
    workers = getattr(option, "numprocesses", None)
    most = _MOST_WORKERS * (os.cpu_count() or 1)
    if isinstance(workers, int) and workers > most:
        raise UsageError(f"-n {workers}: at most {most} on this machine, of which each needs memory and time")
    request.check_workers(workers if isinstance(workers, int) else 0)


def shard(option: Any) -> tuple[int, int] | None:
    """Return (I, N) of ``--shard I/N``; None for all tests. Raises UsageError."""
    if option.shard is None:
        return None
    try:
        return parts(str(option.shard))
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"--shard: {error}") from None


def outside_shard(option: Any, ids: Sequence[str]) -> set[str]:
    """Return the test ids that belong to other shards: each N-th of the sorted ids is in this one."""
    chosen = shard(option)
    if chosen is None:
        return set()
    part, of = chosen
    return {name for number, name in enumerate(sorted(ids)) if number % of != part - 1}


def claim_output(config: pytest.Config) -> run_directory.Claim | None:
    """Set the directory of the run, and lock it if the user named it. Raises UsageError."""
    option = config.option
    if hasattr(config, "workerinput"):
        # All of xdist's workers write to the controller's directory.
        option.output = config.workerinput[OUTPUT]
        return None
    if option.output is None:
        option.output = str(run_directory.new_directory())
        run_directory.check(Path(option.output))
        return None
    if not option.output:
        raise UsageError("--output needs the name of a directory")
    if option.collectonly:
        return None
    return run_directory.Claim(Path(option.output), overwrite=option.overwrite)


def options_of_rerun(option: Any) -> list[str]:
    """Return the options, besides kernel and seed, that decide what a test does."""
    words = [f"--{name}={value}" for name, value in (("level", option.level),) if value]
    words += [f"--guest-clock={option.guest_clock}"] if option.guest_clock else []
    for name in ("append", "memory", "cpus", "numa"):
        words += [f"--{name}={getattr(option, name)}"] if getattr(option, name) else []
    words += ["--profile=quick"] if option.profile == "quick" else []
    words += ["--keep-guest"] if option.keep_guest else []
    words += ["--stop-modules"] if option.stop_modules else []
    words += [f"--allow-skips={option.allow_skips}"] if option.allow_skips else []
    words += [f"--budget={option.budget:g}s"] if option.budget else []
    return words + [f"--pytest=-p {plugin}" for plugin in _plugins_of_user(option)]


def _plugins_of_user(option: Any) -> list[str]:
    """Return the pytest plugins that were asked for: their fixtures may decide what a test does."""
    asked = dict.fromkeys(getattr(option, "plugins", None) or ())
    return [name for name in asked if name != "damon_tests.plugin" and not name.startswith("no:")]
