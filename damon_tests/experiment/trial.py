# SPDX-License-Identifier: GPL-2.0
"""One test's experiment bound to a backend: attempts on demand, each kept."""

from __future__ import annotations

from collections.abc import Callable

from damon_tests.experiment.backend import Backend
from damon_tests.experiment.experiment import Experiment, derive_seed, observe
from damon_tests.experiment.observation import Observation

OnAttempt = Callable[[Observation], None]


class Trial:
    """Performs its experiment once per attempt number and remembers every observation.

    A judgement may ask for more attempts (a written sequential rule decides how many, see
    ``judge.stats``); no attempt is ever repeated or dropped. ``on_attempt`` is told of each
    one as soon as it exists, so that it is on disk before anything is judged.
    """

    def __init__(
        self,
        experiment: Experiment,
        backend: Backend,
        *,
        test_id: str,
        run_seed: int,
        on_attempt: OnAttempt | None = None,
    ) -> None:
        self.experiment = experiment
        self.backend = backend
        self._test_id = test_id
        self._run_seed = run_seed
        self._on_attempt = on_attempt
        self._attempts: dict[int, Observation] = {}

    def seed(self, attempt: int, role: str = "target") -> int:
        """The seed of one random stream of one attempt."""
        return derive_seed(self._run_seed, self._test_id, attempt, role)

    def observe(self, attempt: int = 1) -> Observation:
        """The observation of this attempt, performed now if it was not yet."""
        if attempt not in self._attempts:
            observation = observe(self.experiment, self.backend, self.seed(attempt), attempt)
            self._attempts[attempt] = observation
            if self._on_attempt is not None:
                self._on_attempt(observation)
        return self._attempts[attempt]

    @property
    def observations(self) -> tuple[Observation, ...]:
        """All attempts made so far, in order."""
        return tuple(self._attempts[n] for n in sorted(self._attempts))
