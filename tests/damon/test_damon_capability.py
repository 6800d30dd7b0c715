# SPDX-License-Identifier: GPL-2.0
"""Probes recognise the trees of nine kernels by feature, and leave nothing behind."""

from __future__ import annotations

import errno

import pytest
from fake_damon import FakeDamon
from fake_tree import LEVELS, RELEASES

from damon_tests.damon import features as features_module
from damon_tests.damon.capability import Capabilities, fingerprint, probe
from damon_tests.damon.client import DamonClient
from damon_tests.damon.features import FEATURES, feature_at, version_key
from damon_tests.damon.params import DamonCtx, Damos, Kdamond
from damon_tests.damon.users import ADMIN
from damon_tests.ports import NotSupported, TreeError, UsageError

NEWEST, OLDEST = RELEASES[-1], RELEASES[0]


def probed(release: str, touch: bool = True) -> tuple[Capabilities, FakeDamon]:
    damon = FakeDamon(release)
    return probe(DamonClient(damon, damon.clock), damon.events, touch), damon


@pytest.mark.parametrize(("release", "level"), list(zip(RELEASES, LEVELS, strict=True)))
def test_every_feature_of_every_kernel_is_detected(release: str, level: str) -> None:
    """The present features are exactly those of the dumped kernels, by their first version."""
    capabilities, damon = probed(release)
    expected = {name: version_key(f.since) <= version_key(level) for name, f in FEATURES.items()}
    assert dict(capabilities.present) == expected
    assert capabilities.contradicting(level) == ()
    assert fingerprint(capabilities) == level
    assert capabilities.levels() == (level,)
    assert capabilities.unknown == ()
    assert damon.files[f"{ADMIN}/kdamonds/nr_kdamonds"] == "0"
    assert not any(path.endswith("/state") for path, _ in damon.log)


def test_every_missing_feature_has_a_reason() -> None:
    capabilities, _ = probed(OLDEST)
    lacking = [name for name, there in capabilities.present.items() if not there]
    assert "schemes.collapse" in lacking
    assert all(capabilities.reasons[name] for name in lacking)


def test_requirements_list_everything_that_is_missing() -> None:
    capabilities, _ = probed(OLDEST)
    capabilities.require("ops.vaddr", "damon_aggregated", "schemes.stat")
    with pytest.raises(NotSupported) as caught:
        capabilities.require("vaddr", "attrs.pause", "schemes.collapse", "damos_esz", "schemes.stat")
    assert [m.split(":")[0] for m in caught.value.missing] == ["ctx.pause", "schemes.collapse", "damos_esz"]
    assert "no file contexts/0/pause (since 7.2)" in caught.value.missing[0]
    assert "does not take it (EINVAL) (since 7.2)" in caught.value.missing[1]
    assert "no such tracepoint (since 6.17)" in caught.value.missing[2]
    assert "series 7.2 or later" in str(caught.value)


def test_a_misspelt_requirement_is_a_usage_error() -> None:
    capabilities, _ = probed(NEWEST)
    with pytest.raises(UsageError, match=r"'schemes.stats'"):
        capabilities.require("schemes.stats")


def test_tracepoints_are_missing_without_tracefs() -> None:
    damon = FakeDamon(NEWEST)
    capabilities = probe(DamonClient(damon, damon.clock), None)
    with pytest.raises(NotSupported, match=r"no tracefs to be seen .*since 5.15\)$"):
        capabilities.require("damon_aggregated")
    assert fingerprint(capabilities) == "7.3"


@pytest.mark.parametrize(("release", "level"), list(zip(RELEASES, LEVELS, strict=True)))
def test_what_the_configuration_leaves_out_does_not_change_the_level(release: str, level: str) -> None:
    damon = FakeDamon(release)
    for path in [p for p in damon.files if p.startswith("/sys/module/")]:
        del damon.files[path]
    damon._defaults["kdamonds/0/contexts/0/avail_operations"] = "vaddr"
    capabilities = probe(DamonClient(damon, damon.clock), None)
    assert capabilities.levels() == (level,)
    assert not capabilities.has("modules.damon_reclaim")
    assert capabilities.describe_level() == level


def test_level_description_names_features_that_do_not_fit() -> None:
    damon = FakeDamon("7.0.13")
    damon._words["action"].remove("pageout")
    capabilities = probe(DamonClient(damon, damon.clock), damon.events)
    assert capabilities.describe_level() == "7.0, the nearest; not as there: schemes.pageout"


def test_a_newer_kernel_is_the_newest_level_and_says_so() -> None:
    damon = FakeDamon(NEWEST)
    name = "kdamonds/0/contexts/0/warp_factor"
    damon._modes[name], damon._defaults[name] = 0o600, "9"
    damon.events.names |= {"damon_warp"}
    capabilities = probe(DamonClient(damon, damon.clock), damon.events)
    assert fingerprint(capabilities) == "7.3"
    assert capabilities.unknown == ("tracepoint damon_warp", "file contexts/0/warp_factor")
    assert "newer" in capabilities.describe_level()
    assert "damon_warp" in capabilities.describe_level()


def test_missing_operations_name_their_option() -> None:
    damon = FakeDamon(NEWEST)
    damon._defaults["kdamonds/0/contexts/0/avail_operations"] = "vaddr\nfvaddr"
    capabilities = probe(DamonClient(damon, damon.clock), damon.events)
    capabilities.require("ops.vaddr", "ops.fvaddr")
    with pytest.raises(NotSupported, match=r"CONFIG_DAMON_PADDR\) \(since 5.18\)$"):
        capabilities.require("ops.paddr")


# --- read-only probes ------------------------------------------------------------------------


def test_read_only_probe_writes_nothing_and_finds_what_it_can() -> None:
    capabilities, damon = probed(NEWEST, touch=False)
    assert damon.log == []
    assert not capabilities.staged
    assert capabilities.has("damon_region_aggregated")
    assert capabilities.has("modules.damon_stat.kdamond_pid")
    assert capabilities.present["ctx.pause"] is None
    with pytest.raises(NotSupported, match="not probed"):
        capabilities.require("ctx.pause")
    assert capabilities.levels() == ("7.2", "7.3")
    assert capabilities.describe_level() == "7.2 to 7.3"


def test_foreign_staging_is_read_and_not_replaced() -> None:
    damon = FakeDamon(NEWEST)
    other = DamonClient(damon, damon.clock)
    other.stage((Kdamond(DamonCtx(schemes=(Damos(),))),))
    other.command(0, "on")
    damon.log.clear()
    damon.reads.clear()
    capabilities = probe(DamonClient(damon, damon.clock), damon.events)
    assert damon.log == []
    # Reading these takes DAMON's lock, so that its owner would get EBUSY: read once, to find users.
    assert sorted(p for p in damon.reads if p.endswith(("/state", "/pid", "path"))) == [
        f"{ADMIN}/kdamonds/0/pid",
        f"{ADMIN}/kdamonds/0/state",
    ]
    assert not capabilities.staged
    capabilities.require(
        "ctx.pause", "ops.paddr", "schemes.max_nr_snapshots", "attrs.probes", "quotas.goal_tuner"
    )
    with pytest.raises(NotSupported, match="nr_kdamonds is 1"):
        capabilities.require("schemes.collapse")
    assert capabilities.present["probes.weight"] is None


def test_missing_files_beside_staged_ones_are_missing() -> None:
    damon = FakeDamon(OLDEST)
    other = DamonClient(damon, damon.clock)
    other.stage((Kdamond(),))
    capabilities = probe(DamonClient(damon, damon.clock), damon.events, touch=False)
    assert capabilities.present["ctx.pause"] is False
    assert capabilities.present["kdamond.refresh_ms"] is False
    assert capabilities.present["schemes.dests"] is None


def test_kernel_without_damon_has_no_features() -> None:
    damon = FakeDamon(NEWEST)
    damon.files.clear()
    capabilities = probe(DamonClient(damon, damon.clock), None)
    assert not any(capabilities.present.values())
    with pytest.raises(NotSupported, match="CONFIG_DAMON_SYSFS"):
        capabilities.require("ops.vaddr")


def test_an_unreadable_tree_is_not_called_absent() -> None:
    damon = FakeDamon(NEWEST)
    damon.fail("nr_kdamonds", errno.EACCES, times=5)
    capabilities = probe(DamonClient(damon, damon.clock), None)
    assert capabilities.present["ops.vaddr"] is None
    with pytest.raises(NotSupported, match="unreadable"):
        capabilities.require("ops.vaddr")


def test_the_table_of_names_is_complete() -> None:
    """The docstring with the table of names explains every kind of name."""
    text = features_module.__doc__ or ""
    prefixes = {name.split(".")[0] + "." for name in FEATURES if "." in name}
    explained = {p for p in prefixes if f"``{p}" in text}
    assert prefixes - explained == {"regions."}


@pytest.mark.parametrize(
    ("path", "word", "name"),
    [
        ("/sys/kernel/mm/damon/admin/kdamonds/1/contexts/0/schemes/2/action", "pageout", "schemes.pageout"),
        ("/sys/kernel/mm/damon/admin/kdamonds/0/contexts/0/operations", "paddr", "ops.paddr"),
        ("/sys/kernel/mm/damon/admin/kdamonds/0/contexts/0/schemes/0/quotas/goals/3/nid", None, "goals.nid"),
        ("/sys/kernel/mm/damon/admin/kdamonds/0/contexts/0/schemes/0/action", "dance", None),
        ("/sys/kernel/mm/damon/admin/kdamonds/0/state", None, None),
    ],
)
def test_paths_and_words_name_their_feature(path: str, word: str | None, name: str | None) -> None:
    feature = feature_at(path, word)
    assert (feature and feature.name) == name


def test_a_refusal_of_what_the_probe_found_refutes_not_supported() -> None:
    path = "/sys/kernel/mm/damon/admin/kdamonds/0/contexts/0/schemes/0/action"
    refusal = TreeError("write", path, errno.EINVAL, "pageout")
    error = NotSupported("no pageout", refusals=[refusal])
    there = dict.fromkeys(FEATURES, True)
    assert Capabilities(there).refuted_by(error) is refusal
    assert Capabilities({**there, "schemes.pageout": False}).refuted_by(error) is None
    assert Capabilities(there).refuted_by(NotSupported("anything else")) is None
