# SPDX-License-Identifier: GPL-2.0
"""The repeatable act: (pattern, request, backend, seed, attempt) to Observation. A script on ``live``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from damon_tests.damon.params import DamonCtx, Kdamond
from damon_tests.experiment.attempt import OnAttempt
from damon_tests.experiment.backend import Backend
from damon_tests.experiment.live import live
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.targets import Cover
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns.spec import Pattern


@dataclass(frozen=True)
class Experiment:
    """A pattern to monitor and how, independent of which DAMON does it.

    ``ctx`` has no targets: DAMON monitors the running target, as ``cover`` says. ``duration_ns``: how long
    to record after DAMON was turned on. ``topology``: the machine, None for the default.
    """

    pattern: Pattern
    ctx: DamonCtx
    duration_ns: int
    cover: Cover = "process"
    topology: Topology | None = None


def derive_seed(run_seed: int, test_id: str, attempt: int, role: str) -> int:
    """Return hash(run seed, test id, attempt, role) as a 63-bit integer; the same on every machine."""
    text = f"{run_seed}\0{test_id}\0{attempt}\0{role}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def observe(
    experiment: Experiment, backend: Backend, seed: int, attempt: int = 1, *, keep: OnAttempt | None = None
) -> Observation:
    """Perform ``experiment`` once on a pristine subject of ``backend``. ``keep`` as for ``live``.

    Raises what ``live`` raises.
    """
    with live(
        backend,
        [experiment.pattern],
        [Kdamond(experiment.ctx)],
        seed,
        cover=experiment.cover,
        topology=experiment.topology,
        keep=keep,
        number=attempt,
    ) as run:
        run.session.record(experiment.duration_ns)
        run.make_up(experiment.duration_ns)
    assert run.observation is not None  # something is recorded, and there is a target
    return run.observation
