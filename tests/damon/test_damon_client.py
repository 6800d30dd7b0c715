# SPDX-License-Identifier: GPL-2.0
"""Staging, reading back, commands and results of the client, on the files of nine kernels."""

from __future__ import annotations

import errno

import pytest
from fake_tree import LEVELS, RELEASES, FakeClock, FakeTree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from request_strategies import kdamonds

from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import (
    ANY,
    DamonAttrs,
    DamonCtx,
    DamonProbe,
    DamonTarget,
    Damos,
    DamosDest,
    DamosFilter,
    DamosQuota,
    DamosQuotaGoal,
    Kdamond,
)
from damon_tests.damon.users import ADMIN
from damon_tests.ports import (
    NSEC_PER_SEC,
    HarnessError,
    NotSupported,
    Pending,
    TimedOut,
    TreeError,
    UsageError,
)

NEWEST = RELEASES[-1]
PLAIN = Kdamond(DamonCtx(targets=(DamonTarget(7, ((4096, 8192),)),), schemes=(Damos(access_pattern=ANY),)))


def client_of(release: str) -> tuple[DamonClient, FakeTree, FakeClock]:
    tree, clock = FakeTree(release), FakeClock()
    return DamonClient(tree, clock), tree, clock


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_what_is_staged_reads_back(data: st.DataObject) -> None:
    """On every level, every request that the level can hold reads back."""
    at = data.draw(st.integers(0, len(LEVELS) - 1))
    requested = data.draw(kdamonds(LEVELS[at]))
    client, _, _ = client_of(RELEASES[at])
    client.stage(requested)
    assert client.staged() == requested
    assert client.verify_staged(requested) == ()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_restaging_arrives_at_the_new_request(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(LEVELS) - 1))
    first, second = data.draw(kdamonds(LEVELS[at])), data.draw(kdamonds(LEVELS[at]))
    client, tree, _ = client_of(RELEASES[at])
    client.stage(first)
    if len(first) != len(second):
        with pytest.raises(UsageError, match="cannot change online"):
            client.restage(second)
        return
    client.restage(second)
    assert client.staged() == second
    tree.log.clear()
    client.restage(second)
    assert tree.log == []


@pytest.mark.parametrize("release", RELEASES)
def test_a_plain_request_needs_few_round_trips(release: str) -> None:
    client, tree, _ = client_of(release)
    client.stage((PLAIN,))
    assert tree.round_trips == 2
    tree.round_trips = 0
    client.staged()
    assert tree.round_trips == 1


def test_staging_replaces_what_was_there() -> None:
    client, _, _ = client_of(NEWEST)
    client.stage((PLAIN, PLAIN))
    client.stage((Kdamond(),))
    assert client.staged() == (Kdamond(),)


def test_everything_missing_is_named_with_its_first_version() -> None:
    client, tree, _ = client_of("6.12.107")
    scheme = Damos(
        action="collapse",
        dests=(DamosDest(0, 1),),
        ops_filters=(DamosFilter("anon"),),
        quota=DamosQuota(goals=(DamosQuotaGoal("active_mem_bp", 1),), goal_tuner="temporal"),
    )
    ctx = DamonCtx(pause=True, attrs=DamonAttrs(probes=(DamonProbe(),)), schemes=(scheme,), addr_unit=2)
    with pytest.raises(NotSupported) as caught:
        client.stage((Kdamond(ctx, refresh_ms=5),))
    text = " | ".join(caught.value.missing)
    for name, since in {
        "refresh_ms": "6.17",
        "addr_unit": "6.18",
        "pause": "7.2",
        "probes/nr_probes": "7.2",
        "'collapse'": "7.2",
        "goal_tuner": "7.1",
        "'active_mem_bp'": "7.0",
        "ops_filters/nr_filters": "6.15",
        "dests/nr_dests": "6.17",
    }.items():
        assert any(name in m and f"since {since}" in m for m in caught.value.missing), (name, text)
    assert len(caught.value.missing) == 9
    assert tree.files[f"{ADMIN}/kdamonds/nr_kdamonds"] == "0"  # nothing is left half staged


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("kdamonds/0/contexts/0/targets/0/pid_target", "8"),
        ("kdamonds/0/contexts/0/targets/0/regions/0/end", "4097"),
        ("kdamonds/0/contexts/0/schemes/0/action", "cold"),
        ("kdamonds/0/contexts/0/pause", "Y"),
        ("kdamonds/0/refresh_ms", "1"),
    ],
)
def test_one_changed_file_is_one_difference(path: str, text: str) -> None:
    client, tree, _ = client_of(NEWEST)
    client.stage((PLAIN,))
    tree.files[f"{ADMIN}/{path}"] = text
    (difference,) = client.verify_staged((PLAIN,))
    assert difference.path == path
    assert str(difference.found) in (text, "True")


def test_missing_and_surplus_directories_are_differences() -> None:
    client, _, _ = client_of(NEWEST)
    client.stage((PLAIN,))
    assert {d.path for d in client.verify_staged(())} == {"kdamonds/nr_kdamonds"}
    differences = client.verify_staged((PLAIN, Kdamond()))
    assert {"kdamonds/nr_kdamonds", "kdamonds/1/contexts/nr_contexts"} <= {d.path for d in differences}


def test_busy_files_are_waited_for() -> None:
    client, tree, clock = client_of(NEWEST)
    began = clock.now_ns()
    for path in ("nr_kdamonds", "nr_targets", "nr_schemes", "nr_regions"):
        tree.fail(path, errno.EBUSY, times=3)
    client.stage((PLAIN,))
    assert client.staged() == (PLAIN,)
    assert clock.now_ns() > began
    tree.fail("0/state", errno.EBUSY, times=2)
    assert client.state(0) == "off"


def test_no_limit_is_what_an_unsigned_long_of_32_bits_holds() -> None:
    client, tree, _ = client_of(NEWEST)
    tree.fail("access_pattern/sz/max", errno.ERANGE, times=1)
    client.stage((PLAIN,))
    assert client.staged()[0].ctx.schemes[0].access_pattern.sz_max == (1 << 32) - 1
    assert client.verify_staged((PLAIN,)) == ()
    tree.fail("access_pattern/age/max", errno.ERANGE, times=1)
    with pytest.raises(TreeError):
        client.stage((PLAIN,))


def test_busy_paths_are_read_again() -> None:
    client, tree, _ = client_of(NEWEST)
    requested = Kdamond(DamonCtx(schemes=(Damos(filters=(DamosFilter("memcg", memcg_path="/a"),)),)))
    client.stage((requested,))
    tree.fail("memcg_path", errno.EBUSY, times=4)
    assert client.staged() == (requested,)


def test_waiting_for_a_busy_file_ends_at_the_deadline() -> None:
    tree, clock = FakeTree(NEWEST), FakeClock()
    client = DamonClient(tree, clock, patience_ns=2_000_000_000)
    client.stage((PLAIN,))
    tree.fail("nr_targets", errno.EBUSY, times=10_000)
    began = clock.now_ns()
    with pytest.raises(TreeError, match=r"nr_targets.*EBUSY.*lock"):
        client.stage((PLAIN,))
    assert 2_000_000_000 <= clock.now_ns() - began < 3_000_000_000


def test_a_running_user_is_named_at_once() -> None:
    client, tree, clock = client_of(NEWEST)
    tree.files["/sys/module/damon_stat/parameters/enabled"] = "Y"
    tree.files["/sys/module/damon_stat/parameters/kdamond_pid"] = "53"
    client.stage((PLAIN,))
    tree.fail("0/state", errno.EBUSY, times=100, value="on")
    began = clock.now_ns()
    with pytest.raises(TreeError, match=r"EBUSY.*module damon_stat \(pid 53\)"):
        client.command(0, "on")
    assert clock.now_ns() == began


def test_number_of_running_kdamonds_cannot_change() -> None:
    client, _, clock = client_of(NEWEST)
    client.stage((PLAIN,))
    client.command(0, "on")
    began = clock.now_ns()
    with pytest.raises(TreeError, match=r"nr_kdamonds := '0': EBUSY .*kdamonds/0.*pid 4242"):
        client.clear()
    assert clock.now_ns() == began
    client.command(0, "off")
    client.clear()
    assert client.nr_kdamonds() == 0


def test_command_that_does_not_return_times_out() -> None:
    class Never:
        def done(self) -> bool:
            return False

        def result(self, timeout_ns: int) -> None:
            raise TimedOut("pending")

    class Stuck(FakeTree):
        def begin_write(self, path: str, value: str) -> Never:  # type: ignore[override]
            return Never()

    client = DamonClient(Stuck(NEWEST), FakeClock())
    with pytest.raises(TimedOut, match=r"state := 'commit' did not return within 3 s"):
        client.command(0, "commit", 3_000_000_000)


def test_attempts_of_a_command_share_its_timeout() -> None:
    """Retrying on EBUSY leaves less time for the command itself, and ends when no time is left."""
    waits: list[int] = []

    class Slow(FakeTree):
        def begin_write(self, path: str, value: str) -> Pending:
            outer = super().begin_write(path, value)

            class Waited:
                done = outer.done

                def result(self, timeout_ns: int) -> None:
                    waits.append(timeout_ns)
                    outer.result(timeout_ns)

            return Waited()

    tree, clock = Slow(NEWEST), FakeClock()
    client = DamonClient(tree, clock)
    client.stage((PLAIN,))
    tree.fail("0/state", errno.EBUSY, times=4, value="off")
    with pytest.raises(TreeError, match="EPERM"):
        client.command(0, "off", NSEC_PER_SEC)
    assert waits[0] == NSEC_PER_SEC
    assert waits == sorted(waits, reverse=True)
    assert len(set(waits)) == 5
    tree.fail("0/state", errno.EBUSY, times=10_000, value="off")
    began = clock.now_ns()
    with pytest.raises(TreeError, match="EBUSY"):
        client.command(0, "off", NSEC_PER_SEC)
    assert NSEC_PER_SEC <= clock.now_ns() - began < 2 * NSEC_PER_SEC


def test_results_a_kernel_does_not_have_are_not_supported() -> None:
    client, tree, _ = client_of(NEWEST)
    client.stage((PLAIN,))
    client.command(0, "on")
    path = client.scheme_path(0, 0, "quotas", "effective_bytes")
    del tree.files[path]
    with pytest.raises(NotSupported, match=r"effective_bytes \(since 6.9\)"):
        client.effective_bytes(0, 0)
    tree.files[path] = "1"
    tree.fail("effective_bytes", errno.EIO)
    with pytest.raises(TreeError, match="EIO"):
        client.effective_bytes(0, 0)


def test_pending_commands_explain_their_error() -> None:
    client, _, _ = client_of(NEWEST)
    client.stage((PLAIN,))
    pending = client.begin_command(0, "update_schemes_stats")
    with pytest.raises(TreeError, match="never ran, or has stopped"):
        pending.result(1)


def put_region(tree: FakeTree, index: int, values: dict[str, int], scheme: int = 0) -> None:
    base = f"{ADMIN}/kdamonds/0/contexts/0/schemes/{scheme}/tried_regions/{index}"
    for name, value in values.items():
        tree.add_file(f"{base}/{name}", str(value))


def test_results_are_read_into_records() -> None:
    client, tree, clock = client_of(NEWEST)
    client.stage((PLAIN,))
    client.command(0, "on")
    base = f"{ADMIN}/kdamonds/0/contexts/0/schemes/0"
    for i, name in enumerate(
        (
            "nr_tried",
            "sz_tried",
            "nr_applied",
            "sz_applied",
            "qt_exceeds",
            "sz_ops_filter_passed",
            "nr_snapshots",
        )
    ):
        tree.files[f"{base}/stats/{name}"] = str(i + 1)
    tree.files[f"{base}/quotas/effective_bytes"] = "99"
    tree.files[f"{base}/tried_regions/total_bytes"] = str(1 << 63)
    for i in (2, 10, 0):
        put_region(
            tree,
            i,
            {
                "start": i * 10,
                "end": i * 10 + 10,
                "nr_accesses": i,
                "age": 3,
                "sz_filter_passed": 5,
                "probes/0/hits": 7,
            },
        )
    stats = client.stats(0, 0)
    assert (stats.nr_tried, stats.sz_tried, stats.nr_snapshots) == (1, 2, 7)
    assert client.effective_bytes(0, 0) == 99
    assert client.tried_bytes(0, 0) == 1 << 63
    assert client.tuned_intervals(0) == (5000, 100000)
    tried = client.tried_regions(0, 0)
    assert tried.total_bytes == 1 << 63
    assert tried.regions.start.tolist() == [0, 20, 100]
    assert tried.regions.nr_accesses.tolist() == [0, 2, 10]
    assert tried.regions.sz_filter_passed is not None
    assert tried.regions.probe_hits is not None
    assert tried.regions.probe_hits.tolist() == [[7], [7], [7]]
    assert tried.regions.time_ns == clock.now_ns()
    assert [v for p, v in tree.log if p.endswith("/state")] == [
        "on",
        "update_schemes_stats",
        "update_schemes_effective_quotas",
        "update_schemes_tried_bytes",
        "update_tuned_intervals",
        "update_schemes_tried_regions",
    ]


def test_results_that_an_old_kernel_lacks_are_none() -> None:
    client, tree, _ = client_of("6.12.107")
    client.stage((PLAIN,))
    client.command(0, "on")
    stats = client.stats(0, 0)
    assert stats.sz_ops_filter_passed is None
    assert stats.nr_snapshots is None
    put_region(tree, 3, {"start": 0, "end": 1, "nr_accesses": 0, "age": 0})
    tried = client.tried_regions(0, 0).regions
    assert tried.sz_filter_passed is None
    assert tried.probe_hits is None


def test_broken_results_are_harness_errors() -> None:
    client, tree, _ = client_of(NEWEST)
    client.stage((PLAIN,))
    client.command(0, "on")
    put_region(tree, 0, {"start": 0, "nr_accesses": 0, "age": 0})
    with pytest.raises(HarnessError, match="no file 'end'"):
        client.tried_regions(0, 0)
    with pytest.raises(TreeError, match="ENOENT"):
        client.stats(0, 1)


def test_kernel_without_damon_is_reported() -> None:
    client, tree, _ = client_of(NEWEST)
    tree.files.clear()
    with pytest.raises(NotSupported, match="nr_kdamonds"):
        client.stage(())
    with pytest.raises(TreeError, match="ENOENT"):
        client.staged()
