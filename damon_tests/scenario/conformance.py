# SPDX-License-Identifier: GPL-2.0
"""Compare what a DAMON reports with what the reference reports of the same memory, as distributions.

An attempt is compared with replicas: runs of the reference at the DAMON's level, with the same request, the
same mappings, the accesses that really happened, aggregations as long as the recorded ones, and statistics
read after as many aggregations. Each metric is one number of an attempt; for a correct DAMON and a correct
reference the attempt's rank among its replicas is uniform, which ``judge.oracle`` tests. All metrics of a
test share one α of 0.001 (Bonferroni). Three attempts are judged by their pooled ranks, then five if three do
not decide. With so many metrics, one attempt cannot differ from chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import ANY, DamonCtx, Damos, Kdamond
from damon_tests.damon.records import DamosStats, Recording
from damon_tests.damon.session import Session
from damon_tests.experiment.live import Live
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.replica import replicas
from damon_tests.experiment.sampling_timetable import timetable
from damon_tests.judge import oracle
from damon_tests.judge.monitoring.aggregation_windows import Window
from damon_tests.judge.monitoring.conformance_metrics import Attempt, values
from damon_tests.judge.monitoring.disturbances import modelled
from damon_tests.judge.monitoring.judged_windows import FEWEST_WINDOWS, judged_windows, stalled_ns
from damon_tests.judge.oracle import Band, BandMetric
from damon_tests.judge.stats import SequentialRule
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.reference.sysfs.system import ReferenceSystem
from damon_tests.scenario.reference_bands import band_key, kept_bands

REPLICAS = 40
"""Three attempts beyond all replicas have p = 2 * 41^-3: small enough for 30 metrics to ask for more
attempts; five attempts, for 70 metrics to fail."""

MOST_DISTURBED = 0.05
"""Largest share of the time in which the target may be kept from running. An attempt above it is repeated, at
most SPARE times; only the target's schedule decides. The host does not disturb guests of the instruction
clock: of 28 attempts on 7.3.4 at a load of 13 to 20, one was above it (5.9 %), and 25 below 1 %."""

SPARE = 3

RULE = SequentialRule(alpha=0.001, looks=(3, 5), spend=(0.5, 0.5), comfort=(0.05,))

EVERYTHING = Damos(action="stat", access_pattern=ANY)
"""The first and the last scheme of a request whose statistics are compared. They count the passes: where an
earlier scheme splits a region, all schemes visit its rest again (6.16), or none does (6.12), so either the
last or the first scheme tries all memory exactly once in a pass."""

LiveAct = Callable[..., AbstractContextManager[Live]]


def attempt(live: LiveAct, pattern: str, ctx: DamonCtx, seconds: float, **options: object) -> Attempt:
    """Record ``seconds``, read the statistics of all schemes with one command, and return the attempt.

    ``options``: of ``live``. Raises ValueError when the first or the last scheme is not EVERYTHING.
    """
    if ctx.schemes and not ctx.schemes[0] == EVERYTHING == ctx.schemes[-1]:
        raise ValueError("the first and the last scheme have to be EVERYTHING")
    stats: tuple[DamosStats, ...] = ()
    with live(pattern, ctx, **options) as run:
        run.record(seconds)
        if ctx.schemes:
            stats = _read_stats(run.client, len(ctx.schemes))
    assert run.observation is not None
    return Attempt(run.observation, stats, _passes(run.observation, stats) if stats else 0)


def _read_stats(client: DamonClient, nr_schemes: int) -> tuple[DamosStats, ...]:
    client.command(0, "update_schemes_stats")
    return tuple(client.stats(0, i, update=False) for i in range(nr_schemes))


def _passes(observation: Observation, stats: Sequence[DamosStats]) -> int:
    """Return the number of aggregations after which the statistics were read.

    It follows from the bytes that EVERYTHING tried, which are all memory once in a pass. ``nr_snapshots``
    does not show it: when a later scheme's quota splits the last region, it counts a pass twice. If neither
    scheme tried whole passes, return the number of recorded aggregations: then the counters differ from the
    replicas'.
    """
    recorded = len(observation.recording.of_target(0))
    total = int(observation.recording.of_target(0)[0].sizes.sum())
    tried = (stats[-1].sz_tried, stats[0].sz_tried)
    counted = next((size // total for size in tried if size % total == 0), 0)
    return counted if 0 < counted <= recorded else recorded


# --- replicas and the decision ------------------------------------------------------------------


def compare_with_reference(
    make: Callable[[], Attempt], *, after_s: float, replicas_each: int = REPLICAS
) -> tuple[Check, ...]:
    """Compare as many attempts as ``RULE`` needs with the reference; return one check for each metric.

    ``make`` makes one more attempt. ``after_s``: judge windows from this time on. Disturbed attempts are left
    out, whatever DAMON reported; with more than SPARE of them the result is undecided.
    """
    made: list[tuple[Band, Mapping[str, float]]] = []
    chosen: list[BandMetric] = []
    disturbed: list[float] = []
    observations: list[Observation] = []
    needed = RULE.looks[0]
    while True:
        while len(made) < needed:
            next_attempt = make()
            judged = judged_windows(next_attempt.seen, after_s)
            if disturbance(next_attempt.seen) > MOST_DISTURBED or len(judged) < FEWEST_WINDOWS:
                disturbed.append(disturbance(next_attempt.seen))
                if len(disturbed) > SPARE:
                    return (_too_busy(disturbed),)
                continue
            observed = values(next_attempt, judged)
            chosen = chosen or [_metric(name) for name in observed]
            made.append((_band(next_attempt, chosen, after_s, replicas_each), observed))
            observations.append(next_attempt.seen)
        decision = oracle.judge_against([b for b, _ in made], [o for _, o in made], chosen, RULE)
        if decision.state != "continue":
            accounted = (*modelled(observations, after_s), *_left_out(disturbed, len(made)))
            return tuple(replace(check, modelled=accounted) for check in decision.checks)
        needed = decision.attempts_needed


def disturbance(observation: Observation) -> float:
    """Return the share of the recording, 0 to 1, in which the target was kept from running."""
    recording = observation.recording
    whole = Window(0, recording.started_ns, recording.stopped_ns, recording.snapshots[0])
    return stalled_ns(observation, whole) / max(1, whole.duration_ns)


def _metric(name: str) -> BandMetric:
    """Return the metric of this name.

    Access rates are judged on their wrong side only: when the kdamond ran during a stall is not known, so
    replicas may miss accesses there that DAMON saw. Invariants judge counts above the true accesses.
    """
    unit = "count" if name.startswith("scheme") else "bytes"
    for word, named in (
        ("rate", "fraction"),
        ("age", "aggregations"),
        ("count", "regions"),
        ("sz_", "bytes"),
    ):
        if word in name:
            unit = named
            break
    if "access rate" in name:
        return BandMetric(name, unit, "low" if "hot" in name else "high")
    return BandMetric(name, unit)


def _left_out(disturbed: Sequence[float], judged: int) -> tuple[str, ...]:
    if not disturbed:
        return ()
    whole = len(disturbed) + judged
    return (f"attempts left out, the target was kept from running: {len(disturbed)} of {whole}",)


def _too_busy(disturbed: Sequence[float]) -> Check:
    m = Measurement("attempts in which the target was kept from running", float(len(disturbed)), "count")
    why = f"replicas cannot reproduce disturbed attempts; {SPARE} of them are repeated"
    shares = ", ".join(f"{share:.0%}" for share in disturbed)
    detail = f"of the time: {shares}; end what else keeps this machine busy, and run again"
    return Check(
        "oracle band", m, f"<= {SPARE}, for more than {MOST_DISTURBED:.0%} of the time", why, None, detail
    )


def _band(original: Attempt, chosen: Sequence[BandMetric], after_s: float, n: int) -> Band:
    def simulate(seeds: Sequence[int]) -> Sequence[Mapping[str, float]]:
        replica_values = (values(c, judged_windows(c.seen, after_s)) for c in _copies(original, seeds))
        return [{m.name: by_name.get(m.name, float("nan")) for m in chosen} for by_name in replica_values]

    key = oracle.cache_key(of=band_key(original.seen, after_s, None), passes=original.passes, conformance=1)
    return oracle.band(chosen, simulate, n, kept_bands(original.seen), key)


def _copies(original: Attempt, seeds: Sequence[int]) -> Iterator[Attempt]:
    if not original.stats:
        for recording in replicas(original.seen, seeds):
            yield Attempt(replace(original.seen, recording=recording))
        return
    for seed in seeds:
        recording, stats = _run(original, seed)
        yield Attempt(replace(original.seen, recording=recording), stats, original.passes)


def _run(original: Attempt, seed: int) -> tuple[Recording, tuple[DamosStats, ...]]:
    """Run the reference once; return its recording, and its statistics after as many passes."""
    observation = original.seen
    times = timetable(observation)
    system = ReferenceSystem(
        observation.level,
        seed,
        origin_ns=observation.recording.started_ns,
        sleep_ns=times.sleep_ns,
        work_ns=times.work_ns,
        swap_bytes=0,
    )
    system.add_process(observation.vmas, observation.truth, observation.ctx.targets[0].pid_target)
    client = DamonClient(system.tree, system.clock)
    with Session(client, system.events, (Kdamond(observation.ctx),), source="events") as session:
        session.start()
        # Not by time: what schemes do takes a kernel time, too, and a replica may be ahead of it.
        kdamond = system.tree.slots[0].kdamond
        assert kdamond is not None
        ctx = kdamond.ctx
        # The next aggregation is scheduled when the last one has applied its schemes.
        system.clock.run_until_done(lambda: ctx.next_aggr > original.passes * ctx.window)
        stats = _read_stats(client, len(observation.ctx.schemes))
        session.record(max(0, observation.recording.stopped_ns - system.clock.now_ns()))
    return session.recording(), stats
