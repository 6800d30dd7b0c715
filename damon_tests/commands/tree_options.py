# SPDX-License-Identifier: GPL-2.0
"""From parsed options to requests, for the commands that build kernels."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from damon_tests.commands.bench import chosen
from damon_tests.commands.bisect import BisectRequest, bisect
from damon_tests.commands.bisect_kernel import KUNIT, CommitTester, Metric, MetricTester
from damon_tests.commands.build import build_tree
from damon_tests.commands.commit_tests import SERIES
from damon_tests.commands.gate import GateRequest
from damon_tests.commands.gate import gate as judge_kernels
from damon_tests.commands.gate_tree import TreeRequest, gate_tree
from damon_tests.commands.kselftest import DEBIAN
from damon_tests.commands.kunit import run_kunit, run_kunit_under_uml
from damon_tests.commands.run import suite_path
from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.kernel.build import config, uml
from damon_tests.kernel.build.make import BuildRequest, build
from damon_tests.kernel.guest.topology import Topology, parse_memory
from damon_tests.kernel.images.debian_source import linux_source
from damon_tests.ports import UsageError
from damon_tests.report.run_directory import check, new_directory


def build_request(args: argparse.Namespace, usual: Sequence[str] = config.DEFAULT) -> BuildRequest:
    """Return what ``--tree``, ``--config`` (default: ``usual``) and ``--build-jobs`` ask for."""
    fragments = tuple(args.config) or tuple(usual)
    config.merge(fragments)  # a wrong name is found before anything is fetched
    tree = linux_source(str(args.tree)) if str(args.tree).startswith("debian:") else args.tree
    request = BuildRequest(tree, fragments)
    return request if args.build_jobs is None else replace(request, jobs=args.build_jobs)


def suites_of(areas: Sequence[str]) -> list[str]:
    """Return the directories of the suites that ``--select AREA`` names. Raises UsageError."""
    if not all(areas):
        raise UsageError("--select needs the name of a suite, such as monitoring")
    return [suite_path(f"suites/{area}") for area in areas]


def build_command(args: argparse.Namespace) -> int:
    """Run ``damon-tests build``."""
    return build_tree(build_request(args), args.rev)


def kunit_command(args: argparse.Namespace) -> int:
    """Run ``damon-tests kunit``. Raises UsageError unless exactly one of --tree and --kernel is given."""
    if (args.tree is None) == (args.kernel is None):
        raise UsageError("kunit needs --tree DIR or --kernel K, one of them")
    if args.uml and args.tree is None:
        raise UsageError("--uml goes with --tree: User Mode Linux is built from it")
    if args.kernel is not None:
        if args.config:
            raise UsageError("--config goes with --tree: it says how a source tree is built")
        request = KernelRequest(args.kernel)
        if request.is_host or request.is_reference:
            raise UsageError(f"{args.kernel}: KUnit tests run at boot, in a guest; give the path of an image")
        request.check()
    output = args.output or new_directory()
    check(output)
    if args.uml:
        built = build(replace(build_request(args, uml.FRAGMENTS), arch="um"))
        code = run_kunit_under_uml(built, output, append=args.append.split())
        print(f"Results  {output}\nAgain    damon-tests report {output}")
        return code
    kernel = args.kernel if args.kernel is not None else str(build(build_request(args)).image)
    code = run_kunit(kernel, output, guest=Topology(cmdline=tuple(args.append.split())))
    print(f"Results  {output}\nAgain    damon-tests report {output}")
    return code


def bisect_command(args: argparse.Namespace) -> int:
    """Run ``damon-tests bisect``."""
    if str(args.tree).startswith("debian:"):
        raise UsageError(f"{args.tree}: Debian's source has no commits to choose from; give a git checkout")
    output = args.output or new_directory()
    check(output)
    areas = suites_of(args.select)
    for test in args.tests:
        if not test.startswith(KUNIT):
            suite_path(test)
    tester: CommitTester | MetricTester
    tester = CommitTester(build_request(args), output, areas, ["--profile=quick"])
    tests = args.tests
    if args.metric is not None:
        if args.tests or args.select or args.limit is None:
            raise UsageError("--metric BENCHMARK:METRIC needs --limit, and no --test or --select")
        benchmark, _, name = args.metric.partition(":")
        chosen([benchmark])
        metric = Metric(benchmark, name, args.limit)
        tester, tests = MetricTester(build_request(args), output, metric), [str(metric)]
    request = BisectRequest(args.tree, args.good, args.bad, output, tests, args.seed)
    return bisect(request, tester.attempt, tester.failing).exit_code


def gate_command(args: argparse.Namespace) -> int:
    """Run ``damon-tests gate``: kernels, or what is built from a tree."""
    options = [f"--profile={args.profile or 'quick'}"]
    for name in ("seed", "shard", "append", "memory", "cpus", "numa"):
        if getattr(args, name) is not None:
            options.append(f"--{name}={getattr(args, name)}")
    options += ["--require"] if args.require else []
    options += ["-n", args.workers] if args.workers is not None else []
    output = args.output or new_directory()
    areas = suites_of(args.select)
    guest = KernelRequest(
        append=tuple((args.append or "").split()),
        memory_mib=None if args.memory is None else parse_memory(args.memory),
        cpus=args.cpus,
        numa_nodes=args.numa,
    )
    request = GateRequest(
        args.kernels, output, areas, options, args.baseline, args.jobs, guest, args.selftests
    )
    if args.tree is None:
        for name in ("rev", "base", "config"):
            if getattr(args, name) not in (None, []):
                raise UsageError(f"--{name} goes with --tree: it says what of a source tree to build")
        return judge_kernels(request)
    if args.selftests not in (None, DEBIAN):
        raise UsageError("--selftests takes no TREE beside --tree: the selftests are those of what is built")
    if args.kernels:
        raise UsageError("give --kernel or --tree, not both; --baseline takes an earlier run's directory")
    return gate_tree(TreeRequest(build_request(args), _of_series(request, args), args.rev, args.base))


def _of_series(request: GateRequest, args: argparse.Namespace) -> GateRequest:
    """Return the request with a few tests for each commit of a series, unless the user says which."""
    if args.rev is None or ".." not in args.rev or args.select or args.profile:
        return request
    areas = [suite_path(path) for path in SERIES]
    return replace(request, areas=areas)
