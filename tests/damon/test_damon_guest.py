# SPDX-License-Identifier: GPL-2.0
"""The client on real kernels, in guests (marked vm): the newest and the oldest level."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest

from damon_tests.damon import trace
from damon_tests.damon.capability import fingerprint, probe
from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, DamonTarget, Damos, DamosFilter, Kdamond
from damon_tests.damon.session import Session
from damon_tests.damon.tracefs import PREFIX, TracefsEvents
from damon_tests.kernel.guest.guest import Guest, Guests
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.images import image
from damon_tests.kernel.images.image import KernelImage
from damon_tests.kernel.machine_tree import MachineTree
from damon_tests.ports import NSEC_PER_SEC, FileOp, MachineLost, NotSupported, SpawnRequest, TreeError

pytestmark = pytest.mark.vm

RAM = (0x100000, 0x1FF00000)
WHOLE = DamonCtx("paddr", targets=(DamonTarget(regions=(RAM,)),), schemes=(Damos("stat", ANY),))
INSTANCES = "/sys/kernel/tracing/instances"


@pytest.fixture(scope="module", params=["debian:7.3", "debian:6.12"])
def kernel(request: pytest.FixtureRequest) -> KernelImage:
    return image.resolve(request.param)


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guests]:
    with Guests(tmp_path_factory.mktemp("run")) as guests:
        yield guests


@pytest.fixture
def guest(kernel: KernelImage, guests: Guests) -> Iterator[Guest]:
    with guests.fresh(kernel, Topology(), 1) as fresh:
        yield fresh


@pytest.fixture
def client(guest: Guest) -> DamonClient:
    return DamonClient(MachineTree(guest.machine), guest.machine.clock)


def instances(guest: Guest) -> list[str]:
    return [entry.path for entry in MachineTree(guest.machine).list(INSTANCES)]


def test_the_level_is_recognised(guest: Guest, client: DamonClient, kernel: KernelImage) -> None:
    capabilities = probe(client, TracefsEvents(guest.machine))
    assert fingerprint(capabilities) == ".".join(kernel.release.split(".")[:2])
    assert capabilities.contradicting(fingerprint(capabilities)) == ()
    assert capabilities.unknown == ()
    assert client.nr_kdamonds() == 0
    assert guest.splats() == []


def test_every_aggregation_is_recorded(guest: Guest, client: DamonClient) -> None:
    """The kernel counts the bytes that it applied to, which must agree with the recording."""
    attrs = DamonAttrs(sample_us=5_000, aggr_us=20_000, min_nr_regions=10, max_nr_regions=100)
    events = TracefsEvents(guest.machine)
    with Session(client, events, (Kdamond(replace(WHOLE, attrs=attrs)),)) as session:
        session.record(3 * NSEC_PER_SEC)
        stats = session.scheme_reports()[0].stats
    recording = session.recording()
    assert recording.lost_events == 0
    assert all(s.complete for s in recording.snapshots)
    assert all(int(s.sizes.sum()) == RAM[1] - RAM[0] for s in recording.snapshots)
    tried = [len(s) for s in recording.snapshots]
    if stats.nr_snapshots is not None:
        assert len(tried) >= stats.nr_snapshots
        assert sum(tried[: stats.nr_snapshots]) == stats.nr_tried
    assert instances(guest) == []
    assert client.nr_kdamonds() == 0


def test_recording_of_a_paused_kdamond_is_complete(guest: Guest, client: DamonClient) -> None:
    """A paused DAMON emits no events: its counters must agree with the recording."""
    try:
        with Session(client, TracefsEvents(guest.machine), (Kdamond(WHOLE),)) as session:
            session.record(2 * NSEC_PER_SEC)
            session.pause()
            stats = client.stats(0, 0)
    except NotSupported:
        pytest.skip("no pause, no nr_snapshots")
    assert len(session.recording().snapshots) == stats.nr_snapshots


def test_losses_are_counted_and_complete_snapshots_are_whole(guest: Guest, client: DamonClient) -> None:
    """With a buffer that is far too small, complete snapshots must still have every region."""
    attrs = DamonAttrs(sample_us=1_000, aggr_us=1_000, min_nr_regions=3_000, max_nr_regions=6_000)
    events = TracefsEvents(guest.machine, buffer_kb=(8,))
    with Session(client, events, (Kdamond(replace(WHOLE, attrs=attrs)),)) as session:
        session.record(3 * NSEC_PER_SEC)
    recording = session.recording()
    assert recording.lost_events > 0
    assert any(not s.complete for s in recording.snapshots)
    for s in recording.snapshots:
        if s.complete:
            assert len(s) == s.nr_regions
            assert int(s.sizes.sum()) == RAM[1] - RAM[0]
    assert instances(guest) == []


def test_recordings_of_two_kdamonds_are_separate(guest: Guest, client: DamonClient) -> None:
    low, high = (RAM[0], RAM[0] + (1 << 26)), (RAM[1] - (1 << 26), RAM[1])
    requests = [Kdamond(replace(WHOLE, targets=(DamonTarget(regions=(r,)),))) for r in (low, high)]
    with Session(client, TracefsEvents(guest.machine), requests) as session:
        session.record(2 * NSEC_PER_SEC)
    for i, (start, end) in enumerate((low, high)):
        snapshots = session.recording(i).snapshots
        assert len(snapshots) > 5
        assert all(int(s.start[0]) == start and int(s.end[-1]) == end and s.complete for s in snapshots)


def test_polling_records_regions_of_the_target(guest: Guest, client: DamonClient) -> None:
    with Session(client, None, (Kdamond(replace(WHOLE, schemes=())),)) as session:
        session.record(2 * NSEC_PER_SEC)
    recording = session.recording()
    assert recording.source == "tried_regions"
    assert len(recording.snapshots) >= 3
    # Regions may split or merge while the client reads them, but none disappears.
    assert all(int(s.sizes.sum()) == RAM[1] - RAM[0] for s in recording.snapshots)


def test_kdamond_ends_with_its_killed_target(guest: Guest, client: DamonClient) -> None:
    victim = guest.machine.spawn(SpawnRequest(["/bin/damon-tests-engine"]))  # waits for its standard input
    vaddr = Kdamond(DamonCtx("vaddr", targets=(DamonTarget(victim.pid),)))
    with Session(client, TracefsEvents(guest.machine), (vaddr,)) as session:
        session.record(NSEC_PER_SEC)
        victim.kill(signal.SIGKILL)
        assert session.record(until=lambda: not session.running(), timeout_ns=20 * NSEC_PER_SEC)
    assert client.nr_kdamonds() == 0
    assert instances(guest) == []


def test_refusals_name_their_reason(guest: Guest, client: DamonClient) -> None:
    bad = DamosFilter("memcg", memcg_path="/nowhere")
    for ctx, error, text in (
        (replace(WHOLE, attrs=DamonAttrs(min_nr_regions=2)), errno.EINVAL, "min_nr_regions 2 is below 3"),
        (DamonCtx(targets=(DamonTarget(99_999),)), errno.EINVAL, "may have ended (pid 99999)"),
        (replace(WHOLE, schemes=(Damos(filters=(bad,)),)), errno.ENOMEM, "memcg_path '/nowhere'"),
    ):
        with (
            Session(client, None, (Kdamond(ctx),), source="none") as session,
            pytest.raises(TreeError) as caught,
        ):
            session.start()
        assert caught.value.errno == error
        assert text in str(caught.value)
    assert client.nr_kdamonds() == 0


def test_refusal_names_the_running_module(guest: Guest, client: DamonClient) -> None:
    enabled = "/sys/module/damon_reclaim/parameters/enabled"
    guest.machine.write_file(enabled, b"Y")
    with (
        Session(client, None, (Kdamond(WHOLE),), source="none") as session,
        pytest.raises(TreeError) as caught,
    ):
        session.start()
    assert "in use by module damon_reclaim" in str(caught.value)
    assert guest.machine.read_file(enabled) == b"Y\n"


def test_online_commit_takes_effect(guest: Guest, client: DamonClient) -> None:
    with Session(client, TracefsEvents(guest.machine), (Kdamond(WHOLE),)) as session:
        session.record(NSEC_PER_SEC)
        attrs = DamonAttrs(sample_us=5_000, aggr_us=20_000)
        session.commit((Kdamond(replace(WHOLE, attrs=attrs)),))
        before = len(session.recording().snapshots)
        session.record(2 * NSEC_PER_SEC)
        assert len(session.recording().snapshots) > before + 30
        assert session.client.staged() == session.kdamonds


def test_leftover_trace_instances_are_removed(guest: Guest, client: DamonClient) -> None:
    left, foreign = f"{INSTANCES}/{PREFIX}99999-1-0", f"{INSTANCES}/somebody"
    guest.machine.batch([FileOp("mkdir", left), FileOp("mkdir", foreign)])
    TracefsEvents(guest.machine).open([trace.AGGREGATED]).close()
    assert instances(guest) == ["somebody"]


def test_events_of_a_lost_guest_are_kept(guest: Guest, client: DamonClient) -> None:
    def body() -> None:
        with Session(client, TracefsEvents(guest.machine), (Kdamond(WHOLE),)) as session:
            session.record(2 * NSEC_PER_SEC)
            os.kill(guest.pid, signal.SIGKILL)
            session.record(2 * NSEC_PER_SEC)

    with pytest.raises(MachineLost) as caught:
        body()
    assert isinstance(caught.value.partial, tuple)
    assert len(caught.value.partial[0].snapshots) > 5
