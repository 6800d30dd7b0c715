# SPDX-License-Identifier: GPL-2.0
"""The modules' client on the reference: parameters, sessions, restoring, refusals."""

from __future__ import annotations

from dataclasses import fields

import pytest

from damon_tests.damon.features import FEATURES, LEVELS, version_key
from damon_tests.damon.module_params import DamonLruSort, DamonReclaim, DamonStat
from damon_tests.damon.modules import ModuleClient, ModuleSession
from damon_tests.ports import NSEC_PER_SEC, MachineLost, NotSupported, TreeError
from damon_tests.reference.sysfs.module_abi import MODULES
from damon_tests.reference.sysfs.system import ReferenceSystem

REQUESTS = (DamonReclaim, DamonLruSort, DamonStat)


def client(name="damon_reclaim", level="7.3", **options):
    system = ReferenceSystem(level=level, **options)
    return ModuleClient(system.tree, system.clock, name)


@pytest.mark.parametrize("kind", REQUESTS)
def test_fields_and_defaults_are_the_kernels(kind):
    made = client(kind.MODULE)
    assert {f.name for f in fields(kind)} == set(made.writable())
    ModuleSession(made, kind()).stage(kind())  # nothing differs, so nothing is written
    shown = {
        f.name: ("Y" if f.default else "N") if f.type == "bool" else str(f.default) for f in fields(kind)
    }
    assert shown == made.writable()


@pytest.mark.parametrize("kind", REQUESTS)
def test_since_agrees_with_features_and_the_reference(kind):
    for name, since in kind.SINCE.items():
        assert FEATURES[f"modules.{kind.MODULE}.{name}"].since == since
    oldest = version_key(LEVELS[0])
    later = {s.name for s in MODULES[kind.MODULE][1] if s.since > oldest and s.mode & 0o200}
    assert later == {n for n, since in kind.SINCE.items() if version_key(since) > oldest}


def test_a_session_stages_and_restores_everything():
    made = client()
    before = made.writable()
    with ModuleSession(made, DamonReclaim(min_age=5, skip_anon=True, quota_sz=1 << 20)) as session:
        assert (made.number("min_age"), made.flag("skip_anon"), made.enabled) == (5, True, False)
        session.enable()
        assert made.enabled
        assert made.kdamond_pid() > 0
        assert made.number("monitor_region_end") > 0
    assert made.writable() == before
    assert (made.enabled, made.kdamond_pid()) == (False, -1)


def test_restored_after_an_exception_that_is_kept():
    made = client()
    before = made.writable()

    def failing(session):
        session.enable()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), ModuleSession(made, DamonReclaim(min_age=5)) as session:
        failing(session)
    assert made.writable() == before
    assert not made.enabled


def test_failed_restore_is_noted_on_the_error(monkeypatch):
    made = client()
    write = made.tree.write

    def refusing(path, value):
        if path.endswith("/min_age") and value != "5":
            raise TreeError("write", path, 5, value)
        write(path, value)

    monkeypatch.setattr(made.tree, "write", refusing)
    with pytest.raises(TreeError, match="min_age"), ModuleSession(made, DamonReclaim(min_age=5, quota_ms=1)):
        pass
    assert made.number("quota_ms") == 10  # the others are back all the same
    monkeypatch.setattr(made.tree, "write", write)
    made.write("min_age", 120_000_000)
    monkeypatch.setattr(made.tree, "write", refusing)
    with pytest.raises(ZeroDivisionError) as caught, ModuleSession(made, DamonReclaim(min_age=5)):
        raise ZeroDivisionError
    assert "restoring damon_reclaim failed" in caught.value.__notes__[0]


def test_lost_machine_is_not_accessed_again(monkeypatch):
    made = client()

    def losing():
        monkeypatch.setattr(made.tree, "read", None)
        monkeypatch.setattr(made.tree, "write", None)
        raise MachineLost("gone")

    with pytest.raises(MachineLost), ModuleSession(made, DamonReclaim()):
        losing()


def test_running_module_is_refused_and_not_changed():
    made = client("damon_stat", damon_stat=True)
    with pytest.raises(NotSupported, match="damon_stat is on") as caught, ModuleSession(made, DamonStat()):
        pass
    assert "echo N" in caught.value.remedy
    assert made.enabled


def test_missing_parameters_are_all_named_and_nothing_is_written():
    made = client(level="6.12")
    before = made.writable()
    wanted = DamonReclaim(min_age=5, addr_unit=4096, autotune_monitoring_intervals=True)
    with pytest.raises(NotSupported) as caught, ModuleSession(made, wanted):
        pass
    assert [m.split()[1] for m in caught.value.missing] == ["addr_unit", "autotune_monitoring_intervals"]
    assert "since 6.18" in str(caught.value)
    assert made.writable() == before


def test_absent_module_is_not_supported():
    made = client("damon_stat", level="6.12")
    with pytest.raises(NotSupported, match="no module damon_stat"), ModuleSession(made, DamonStat()):
        pass


@pytest.mark.parametrize("level", ["6.12", "7.1", "7.3"])
def test_commit_changes_a_running_module(level):
    made = client(level=level)
    with ModuleSession(made, DamonReclaim(wmarks_high=1000, wmarks_mid=999, wmarks_low=0)) as session:
        session.enable()
        region = (made.number("monitor_region_start"), made.number("monitor_region_end"))
        session.commit(min_nr_regions=50)
        assert made.number("min_nr_regions") == 50
        assert (made.number("monitor_region_start"), made.number("monitor_region_end")) == region
        assert session.parameters.min_nr_regions == 50
        made.clock.run_for(NSEC_PER_SEC)
        assert made.enabled


def test_refused_commit_raises():
    made = client()
    with ModuleSession(made, DamonReclaim()) as session:
        session.enable()
        with pytest.raises(TreeError, match="EINVAL"):
            session.commit(aggr_interval=0)
        assert made.enabled


def test_statistics_of_modules_are_read():
    assert client().stats().nr_tried == 0
    sort = client("damon_lru_sort")
    assert sort.stats("hot") == sort.stats("cold") == client().stats()
    assert client("damon_stat", level="7.1").kdamond_pid() is None
