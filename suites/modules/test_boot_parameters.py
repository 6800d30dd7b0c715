# SPDX-License-Identifier: GPL-2.0
"""Parameters of the modules on the kernel's command line, as distributions and administrators give them."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from damon_tests.damon.module_params import DamonLruSort, DamonReclaim
from damon_tests.damon.modules import ModuleClient
from damon_tests.judge.verdict import Measurement
from damon_tests.kernel.guest.topology import Topology
from damon_tests.ports import NSEC_PER_SEC, NotSupported

pytestmark = pytest.mark.profile("full")

GIVEN = {
    DamonReclaim.MODULE: {
        "min_age": "7000000",
        "quota_sz": "1048576",
        "quota_reset_interval_ms": "250",
        "wmarks_high": "1000",
        "wmarks_mid": "999",
        "wmarks_low": "0",
        "sample_interval": "4000",
        "aggr_interval": "80000",
        "min_nr_regions": "20",
        "max_nr_regions": "900",
        "skip_anon": "Y",
    },
    DamonLruSort.MODULE: {
        "hot_thres_access_freq": "300",
        "cold_min_age": "7000000",
        "quota_ms": "5",
        "wmarks_high": "1000",
        "wmarks_mid": "999",
        "wmarks_low": "0",
        "aggr_interval": "80000",
    },
}

EACH = pytest.mark.parametrize(
    "module",
    [
        pytest.param(DamonReclaim.MODULE, marks=pytest.mark.needs("modules.damon_reclaim")),
        pytest.param(DamonLruSort.MODULE, marks=pytest.mark.needs("modules.damon_lru_sort")),
    ],
)


def command_line(module: str, **more: str) -> tuple[str, ...]:
    """Return the words of the kernel's command line that give the module its parameters."""
    return tuple(f"{module}.{name}={value}" for name, value in {**GIVEN[module], **more}.items())


@contextmanager
def booted(backend, words):
    """Boot a machine of the DAMON under test with more words on its command line."""
    if backend.machine_has() is not None:
        raise NotSupported("a machine booted for the test", remedy="use a VM (--kernel debian:newest)")
    subject = backend.subject(1, Topology(cmdline=words))
    try:
        yield subject
    finally:
        subject.close()


@EACH
def test_command_line_sets_parameters(backend, expect, module):
    """What the command line gives is what the files read, and the module stays off."""
    with booted(backend, command_line(module)) as subject:
        client = ModuleClient(subject.tree, subject.clock, module)
        read = {name: client.text(name) for name in GIVEN[module]}
        on = client.enabled
    wrong = [f"{name} reads {read[name]}" for name, value in GIVEN[module].items() if read[name] != value]
    expect.nothing("parameters that differ", wrong, because="a parameter may be given at boot (§6)")
    expect.equal(Measurement("enabled", on, "count"), 0, because="nobody enabled it")


@EACH
def test_module_enabled_on_the_command_line_runs(backend, expect, module):
    """enabled=Y on the command line starts the module at boot, with the parameters that stand beside it."""
    with booted(backend, command_line(module, enabled="Y")) as subject:
        client = ModuleClient(subject.tree, subject.clock, module)
        subject.clock.run_for(NSEC_PER_SEC)
        on, pid = client.enabled, client.kdamond_pid()
        age = client.text("aggr_interval")
        client.disable()
        after = client.enabled
        splats = subject.splats()
    because = "enabled=Y starts it at the end of boot (§6)"
    expect.equal(Measurement("enabled after boot", on, "count"), 1, because=because)
    expect.at_least(Measurement("kdamond_pid", pid or -1, "pid"), 1, because=because)
    expect.equal(Measurement("aggr_interval", float(age), "µs"), 80_000, because="it was given, too")
    expect.equal(Measurement("enabled after N", after, "count"), 0, because="it can be turned off as always")
    expect.nothing("kernel complaints", splats, because="starting at boot is no reason to complain")
