# SPDX-License-Identifier: GPL-2.0
"""A session: stage DAMON, turn it on, record, and always turn it off and clear the tree.

with Session(client, events, (Kdamond(ctx),)) as session:
    session.start()
    session.record(2 * NSEC_PER_SEC)
    stats = session.scheme_reports()
recording = session.recording()
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from types import TracebackType
from typing import Literal, Self

from damon_tests.damon import trace
from damon_tests.damon.client import DamonClient, Difference
from damon_tests.damon.collector import Collector, Polling, Tracing, wanted_source
from damon_tests.damon.params import Kdamond
from damon_tests.damon.records import Recording, SchemeReport, TriedRegions
from damon_tests.ports import (
    NSEC_PER_MSEC,
    NSEC_PER_SEC,
    DamonTestsError,
    Events,
    HarnessError,
    MachineLost,
    NotSupported,
    TreeError,
    UsageError,
)

_OPEN_END_NS = (1 << 63) - 1  # end of a recording whose machine was lost

Source = Literal["auto", "events", "tried_regions", "none"]


class StagingMismatch(HarnessError):
    """The tree does not read back as staged; ``differences`` has every file."""

    def __init__(self, differences: Sequence[Difference]) -> None:
        self.differences = tuple(differences)
        super().__init__("read back differs from what was staged: " + "; ".join(map(str, differences)))


class Session:
    """Owns DAMON's tree from ``__enter__`` to ``__exit__``: it must be unused before, and is empty after.

    ``source``: how to record regions: "events" by tracepoints, "tried_regions" by polling
    them, "auto" by tracepoints if they exist, "none" not at all. ``extra_events``: more tracepoints to
    record; ``events`` returns them. Polling needs a ``stat`` scheme that matches every region: if a kdamond
    has none, the session appends it after the requested schemes (``kdamonds`` shows it).

    MachineLost carries ``partial``: the recordings so far, one per kdamond.
    """

    def __init__(
        self,
        client: DamonClient,
        events: Events | None,
        kdamonds: Sequence[Kdamond],
        *,
        source: Source = "auto",
        extra_events: Sequence[str] = (),
    ) -> None:
        self.client = client
        self._wanted = wanted_source(source, events, kdamonds)
        self._collector: Collector
        if self._wanted == "tried_regions":
            self._collector = Polling(client, kdamonds)
        else:
            self._collector = Tracing(events, kdamonds, extra_events, self._wanted)
        self.kdamonds = self._collector.kdamonds
        self._staged = False
        self._on: list[int] = []
        self._started_ns = 0
        self._stopped_ns: int | None = None
        self._pauses: list[tuple[int, bool]] = []  # from when on kdamonds are paused, or not

    # --- life ----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Stage and read back. Raises NotSupported if the kernel lacks something, or if DAMON is in use."""
        self._refuse_if_in_use()
        try:
            self._staged = True
            self.client.stage(self.kdamonds)
            differences = self.client.verify_staged(self.kdamonds)
            if differences:
                raise StagingMismatch(differences)
            self._collector.open()
        except BaseException as error:
            self._leave(error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._leave(error)

    def start(self) -> None:
        """Turn all kdamonds on, unless they are on. Raises TreeError if DAMON refuses."""
        if self._on or self._stopped_ns is not None:
            return
        self._started_ns = self.client.clock.now_ns()
        self._note_pause()
        for i in range(len(self.kdamonds)):
            self._on.append(i)  # before the command, so that a failed start is cleaned up as well
            self.client.command(i, "on")
            self._collector.started(i, self.client.pid(i))

    def stop(self) -> None:
        """Turn off the kdamonds, and collect what was recorded until then. May be called twice.

        The recording ends before "off" is written: "off" wakes a kdamond that sleeps by ticks (specification
        2.11), so that its last aggregation is too short.
        """
        with ExitStack() as steps:  # runs every step even if others fail, in reverse order
            steps.callback(self._collector.close)
            self.end_recording()
            for i in self._on:
                steps.callback(self._turn_off, i)
            self._on = []

    # --- while it runs -------------------------------------------------------------------------

    def end_recording(self) -> None:
        """End the recordings here; DAMON still runs. May be called twice."""
        if self._stopped_ns is None:
            self._stopped_ns = self.client.clock.now_ns()

    def record(
        self,
        duration_ns: int | None = None,
        until: Callable[[], bool] | None = None,
        timeout_ns: int = 600 * NSEC_PER_SEC,
    ) -> bool:
        """Record for ``duration_ns``, or until ``until()`` holds.

        Start the session if needed. Return whether ``until`` held within ``timeout_ns``; True for a
        duration. ``until`` is called about every 50 ms.
        """
        self.start()
        clock = self.client.clock
        if until is not None:
            return self._record_until(until, clock.now_ns() + (duration_ns or timeout_ns))
        if duration_ns is None:
            raise UsageError("record needs a duration or a condition")
        deadline = clock.now_ns() + duration_ns
        while (left := deadline - clock.now_ns()) > 0:
            clock.run_for(min(left, self._collector.period_ns))
            self._collector.collect()
        return True

    def commit(self, kdamonds: Sequence[Kdamond], word: str = "commit") -> None:
        """Change running kdamonds online: stage the differences, then ``commit`` each kdamond that differs.

        ``word``: another command that reads the staged files (commit_schemes_quota_goals reads only goals).

        The commit removes targets that are marked obsolete; this removes their directories as well, so that
        the indices of the tree and of the running context stay the same.
        """
        before, self.kdamonds = self.kdamonds, self._collector.adapt(kdamonds)
        self.client.restage(self.kdamonds)
        for i, (old, new) in enumerate(zip(before, self.kdamonds, strict=True)):
            if old != new:
                self.client.command(i, word)
        self._note_pause()
        kept = tuple(_without_obsolete(k) for k in self.kdamonds)
        if kept != self.kdamonds:
            self.kdamonds = kept
            self.client.restage(kept)

    def pause(self, paused: bool = True) -> None:
        """Pause (or resume) all kdamonds. Raises NotSupported before 7.2."""
        self.commit(tuple(replace(k, ctx=replace(k.ctx, pause=paused)) for k in self.kdamonds))

    def _note_pause(self) -> None:
        self._pauses.append((self.client.clock.now_ns(), any(k.ctx.pause for k in self.kdamonds)))

    def paused(self) -> tuple[tuple[int, int], ...]:
        """Return the times [from, to), ns, in which any kdamond was paused by a request, until now."""
        now = self.client.clock.now_ns() if self._stopped_ns is None else self._stopped_ns
        ends = [*(time_ns for time_ns, _ in self._pauses[1:]), now]
        return tuple(
            (begin, end) for (begin, on), end in zip(self._pauses, ends, strict=False) if on and begin < end
        )

    def running(self, kdamond_idx: int = 0) -> bool:
        """Return whether a kdamond still runs; it ends by itself when its target processes have ended."""
        return self.client.state(kdamond_idx) == "on"

    # --- results -------------------------------------------------------------------------------

    def recording(self, kdamond_idx: int = 0, target_idx: int | None = None) -> Recording:
        """Return the recording of a kdamond so far (complete after ``stop``), or of one of its targets.

        While it runs, leave out an aggregation whose events are still arriving. Raises NotSupported for
        source "none".
        """
        if self._wanted == "none":
            raise NotSupported("this session does not record regions", remedy="use another source")
        if self._stopped_ns is None:
            self._collector.collect()
        final = self._stopped_ns is not None
        stopped = self.client.clock.now_ns() if self._stopped_ns is None else self._stopped_ns
        recording = self._collector.recording(kdamond_idx, self._started_ns, stopped, final)
        return (
            recording if target_idx is None else replace(recording, snapshots=recording.of_target(target_idx))
        )

    def unrecorded(self, kdamond_idx: int = 0) -> Recording:
        """Return a recording without regions, of source "none": the request, and when the session ran."""
        stopped = self.client.clock.now_ns() if self._stopped_ns is None else self._stopped_ns
        ctx = self.kdamonds[kdamond_idx].ctx
        return Recording(
            source="none",
            operations=ctx.operations,
            sample_us=ctx.attrs.sample_us,
            aggr_us=ctx.attrs.aggr_us,
            snapshots=(),
            started_ns=self._started_ns,
            stopped_ns=stopped,
            addr_unit=ctx.addr_unit,
        )

    def events(self, name: str | Sequence[str], kdamond_idx: int = 0) -> list[trace.TypedEvent]:
        """Return the typed events of one name so far, such as those of ``extra_events``.

        For several names, return all of them in the order in which they happened.
        """
        if self._stopped_ns is None:
            self._collector.collect()
        return self._collector.typed((name,) if isinstance(name, str) else name, kdamond_idx)

    def scheme_reports(self, kdamond_idx: int = 0, *, tried: bool = True) -> tuple[SchemeReport, ...]:
        """Return counters, effective quota (None before 6.9) and tried regions of every scheme of a kdamond.

        One command each updates those of all schemes. Leave out tried regions without ``tried``, and if the
        kernel cancels their update: paused, or deactivated by watermarks.
        """
        numbers = range(len(self.kdamonds[kdamond_idx].ctx.schemes))
        stats = [self.client.stats(kdamond_idx, i, update=i == 0) for i in numbers]
        effective = [self._effective_bytes(kdamond_idx, i) for i in numbers]
        regions = self._tried_regions(kdamond_idx) if tried and numbers else []
        return tuple(SchemeReport(stats[i], effective[i], (regions[i],) if regions else ()) for i in numbers)

    # --- inside --------------------------------------------------------------------------------

    def _effective_bytes(self, kdamond_idx: int, scheme_idx: int) -> int | None:
        try:
            return self.client.effective_bytes(kdamond_idx, scheme_idx, update=scheme_idx == 0)
        except NotSupported:
            return None

    def _tried_regions(self, kdamond_idx: int) -> list[TriedRegions]:
        numbers = range(len(self.kdamonds[kdamond_idx].ctx.schemes))
        try:
            return [self.client.tried_regions(kdamond_idx, i, update=i == 0) for i in numbers]
        except TreeError as error:
            if error.errno != errno.ECANCELED or not self.running(kdamond_idx):
                raise
            return []

    def _refuse_if_in_use(self) -> None:
        usage = self.client.usage()
        if usage.nr_kdamonds or any(user.kind == "kdamond" for user in usage.users):
            raise NotSupported(
                f"DAMON's tree is in use: nr_kdamonds is {usage.nr_kdamonds}, running: {usage}",
                remedy="kdamonds of others are never touched; their owner must set nr_kdamonds to 0",
            )

    def _record_until(self, until: Callable[[], bool], deadline_ns: int) -> bool:
        last = self.client.clock.now_ns()

        def condition() -> bool:
            nonlocal last
            now = self.client.clock.now_ns()
            if now - last >= self._collector.period_ns:
                self._collector.collect()
                last = now
            return until()

        held = self.client.clock.wait_until(condition, deadline_ns, 50 * NSEC_PER_MSEC)
        self._collector.collect()
        return held

    def _turn_off(self, kdamond_idx: int) -> None:
        """Turn off; accept EPERM (kernels before 7.3) if it ended by itself, EINVAL if it never ran."""
        try:
            self.client.command(kdamond_idx, "off")
        except TreeError as error:
            if error.errno not in (errno.EPERM, errno.EINVAL) or self.running(kdamond_idx):
                raise

    def _leave(self, error: BaseException | None) -> None:
        """Turn off and clear. A failure to do so never hides the error that ended the body."""
        failures: list[BaseException] = []
        if not isinstance(error, MachineLost):
            for step in (self.stop, self._clear):
                try:
                    step()
                except DamonTestsError as failure:
                    failures.append(failure)
        main = error or (failures.pop(0) if failures else None)
        if main is None:
            return
        for other in failures:
            main.add_note(f"and cleaning up failed: {other}")
        if isinstance(main, MachineLost) and main.partial is None and self._wanted != "none":
            main.partial = tuple(self._partial(i) for i in range(len(self.kdamonds)))
        if main is not error:
            raise main

    def _clear(self) -> None:
        if self._staged:
            self.client.clear()
            self._staged = False

    def _partial(self, kdamond_idx: int) -> Recording:
        """Return the recording of a lost machine; it ends at its last snapshot."""
        with suppress(DamonTestsError):
            self._collector.collect()  # events that had already arrived on this side
        recording = self._collector.recording(kdamond_idx, self._started_ns, _OPEN_END_NS, final=False)
        last = recording.snapshots[-1].time_ns if recording.snapshots else self._started_ns
        return replace(recording, stopped_ns=last)


def _without_obsolete(kdamond: Kdamond) -> Kdamond:
    targets = tuple(t for t in kdamond.ctx.targets if not t.obsolete_target)
    return replace(kdamond, ctx=replace(kdamond.ctx, targets=targets))
