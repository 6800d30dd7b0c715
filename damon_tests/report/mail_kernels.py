# SPDX-License-Identifier: GPL-2.0
"""What a mail says of kernels: the one that failed, and the others that the same test ran on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.report import wording

Run = Mapping[str, Any]
Test = Mapping[str, Any]

_MOST_DIFFERENCES = 12


def provenance_of(run: Run, backend: str) -> Mapping[str, Any]:
    """Return what is known of the run on that backend; of a merged run, of the part that has it."""
    provenance: Mapping[str, Any] = run["provenance"]
    parts = provenance.get("merged", [provenance])
    return next((part for part in parts if part.get("kernel_option") == backend), parts[0])


def kernel_release(run: Run, backend: str) -> str:
    """Return the release of the kernel that a backend ran."""
    kernel = provenance_of(run, backend).get("kernel", {})
    return str(kernel.get("release") or kernel.get("kernel") or backend)


def about_kernel(run: Run, test: Test) -> Iterator[str]:
    """Yield what is known of the kernel and of its machine."""
    backend = test["backend"]
    kernel = provenance_of(run, backend).get("kernel", {})
    yield f"* Release: {kernel_release(run, backend)} ({backend}, judged as {test['level'] or '?'})"
    for package in kernel.get("packages", ()):
        yield f"* Package: {package[0]} {package[1]}"
    for name, key in (("Commit", "commit"), ("Digest of its configuration", "config")):
        if kernel.get(key, "unknown") != "unknown":
            yield f"* {name}: {kernel[key]}"
    if options := kernel.get("config_options"):
        yield f"* Options that matter: {', '.join(f'{name}={value}' for name, value in options.items())}"
    if "accel" in kernel:
        memory = f"{kernel.get('memory_mib', '?')} MiB, {kernel.get('cpus', '?')} CPUs"
        nodes = wording.plural(int(kernel.get("numa_nodes", 1)), "NUMA node")
        yield f"* Machine: QEMU guest ({kernel['accel']}), {memory}, {nodes}"
    if kernel.get("cmdline"):
        yield f"* Command line: {kernel['cmdline']}"


def other_kernels(run: Run, test: Test) -> Iterator[str]:
    """Yield each kernel that this test ran on, with its verdict, and how those that pass are configured."""
    for other in run["tests"]:
        if other["id"] != test["id"] or KernelRequest(other["backend"]).is_reference:
            continue
        verdict = {"XFAIL": "FAIL (known)"}.get(other["verdict"], other["verdict"])
        yield f"* {kernel_release(run, other['backend'])} ({other['backend']}): {verdict}"
        if other["verdict"] in ("PASS", "XPASS"):
            yield from _configured_otherwise(run, test["backend"], other["backend"])


def _configured_otherwise(run: Run, failing: str, passing: str) -> Iterator[str]:
    """Yield how the options of a passing kernel differ from those of the failing one, if both are known."""
    bad, good = (
        provenance_of(run, backend).get("kernel", {}).get("config_options") for backend in (failing, passing)
    )
    if not bad or not good:
        return
    names = [name for name in sorted({*bad, *good}) if bad.get(name) != good.get(name)]
    if not names:
        yield "  Its options that matter are the same."
        return
    shown = [f"{name} {good.get(name, 'n')} (failing: {bad.get(name, 'n')})" for name in names]
    more = f", and {len(names) - _MOST_DIFFERENCES} more" if len(names) > _MOST_DIFFERENCES else ""
    yield f"  Configured otherwise: {', '.join(shown[:_MOST_DIFFERENCES])}{more}."
