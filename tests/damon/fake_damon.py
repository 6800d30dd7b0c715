# SPDX-License-Identifier: GPL-2.0
"""A FakeTree that also "monitors": two regions per target and aggregation, as events and tried regions."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from fake_tree import RELEASES, FakeClock, FakeTree

from damon_tests.damon import trace
from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import DamonCtx, DamonTarget, Kdamond
from damon_tests.damon.session import Session
from damon_tests.damon.users import ADMIN
from damon_tests.ports import Event, EventStream, MachineLost, NotSupported


class FakeStream:
    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.arrived: list[Event] = []
        self.late: list[Event] = []
        self.closed = 0
        self.lost_count = 0

    def read(self) -> Sequence[Event]:
        events, self.arrived = self.arrived, []
        return events

    def lost(self) -> int:
        return self.lost_count

    def close(self) -> None:
        """Deliver the events that were under way."""
        self.arrived += self.late
        self.late = []
        self.closed += 1


class FakeEvents:
    def __init__(self, names: set[str]) -> None:
        self.names = frozenset(names)
        self.streams: list[FakeStream] = []
        self.on_open: list[str] = []

    def available(self) -> frozenset[str]:
        return self.names

    def open(self, names: Sequence[str]) -> EventStream:
        if missing := set(names) - self.names:
            raise NotSupported(*sorted(missing))
        self.streams.append(FakeStream(names))
        return self.streams[-1]


class FakeDamon(FakeTree):
    """``pids`` has each kdamond's thread; ``dead`` makes every access fail like that of a dead guest."""

    def __init__(self, release: str) -> None:
        super().__init__(release)
        self.clock = FakeClock()
        self.events = FakeEvents(self.tracepoints)
        self.clock.hooks.append(self.advance)
        self.due: dict[int, int] = {}
        self.dead = False
        self.end_at: int | None = None

    def advance(self) -> None:
        self._alive()
        for i in range(int(self.files[f"{ADMIN}/kdamonds/nr_kdamonds"])):
            base = f"{ADMIN}/kdamonds/{i}"
            if self.files.get(f"{base}/state") != "on":
                continue
            until = min(self.clock.ns, self.end_at or self.clock.ns)
            while self.due[i] <= until:
                self._aggregate(i, self.due[i])
                self.due[i] += self._aggr_ns(base)
            if self.end_at is not None and self.clock.ns >= self.end_at:
                self.files[f"{base}/state"], self.files[f"{base}/pid"] = "off", "-1"

    def _aggr_ns(self, base: str) -> int:
        return int(self.files[f"{base}/contexts/0/monitoring_attrs/intervals/aggr_us"]) * 1000

    def _aggregate(self, i: int, now: int) -> None:
        base = f"{ADMIN}/kdamonds/{i}"
        pid = int(self.files[f"{base}/pid"])
        for stream in self.events.streams:
            for name in stream.names:
                if stream.closed or name not in (trace.AGGREGATED, trace.REGION_AGGREGATED):
                    continue
                for t in range(int(self.files[f"{base}/contexts/0/targets/nr_targets"])):
                    for r in range(2):
                        text = f"target_id={t} nr_regions=2 {r * 4096}-{r * 4096 + 4096}: {i} 3"
                        hits = " probe_hits=01" if name == trace.REGION_AGGREGATED else ""
                        stream.arrived.append(Event(now + r, name, text + hits, pid))

    def _command(self, path: str, value: str) -> None:
        self._alive()
        super()._command(path, value)
        if value == "on":
            i, base = int(path.split("/")[-2]), path.removesuffix("/state")
            self.files[f"{base}/pid"] = str(4242 + i)
            self.due[i] = self.clock.ns + self._aggr_ns(base)
        if value == "update_schemes_tried_regions":
            self.clock.run_for(100_000_000)
            base = f"{path.removesuffix('state')}contexts/0/schemes"
            for s in range(int(self.files[f"{base}/nr_schemes"])):
                for k, v in {"start": 0, "end": 4096, "nr_accesses": 9, "age": 1}.items():
                    self.add_file(f"{base}/{s}/tried_regions/0/{k}", str(v))

    def _alive(self) -> None:
        if self.dead:
            raise MachineLost("the guest does not answer")

    def _maybe_fail(self, operation: str, path: str, value: str | None) -> None:
        self._alive()
        super()._maybe_fail(operation, path, value)

    def refuse(self, word: str, error: int = errno.EINVAL) -> None:
        """Make the next such command fail."""
        self.fail("/state", error, value=word)


# --- helpers of session tests ---------------------------------------------------------------

NEWEST = RELEASES[-1]
PLAIN = Kdamond(DamonCtx(targets=(DamonTarget(7),)))


def session_on(damon: FakeDamon, *kdamonds: Kdamond, **options: object) -> Session:
    client = DamonClient(damon, damon.clock)
    return Session(client, damon.events, kdamonds or (PLAIN,), **options)  # type: ignore[arg-type]


def is_clean(damon: FakeDamon) -> bool:
    streams = damon.events.streams
    return damon.files[f"{ADMIN}/kdamonds/nr_kdamonds"] == "0" and all(s.closed for s in streams)


def commands(damon: FakeDamon) -> list[str]:
    return [value for path, value in damon.log if path.endswith("/state")]
