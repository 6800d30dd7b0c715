# SPDX-License-Identifier: GPL-2.0
"""A test's experiment bound to a backend: attempts run on demand, and every observation is kept."""

from __future__ import annotations

from collections.abc import Callable

from damon_tests.experiment.attempt import OnAttempt
from damon_tests.experiment.backend import Backend
from damon_tests.experiment.experiment import Experiment, derive_seed, observe
from damon_tests.experiment.observation import Observation


class Trial:
    """Performs its experiment once per attempt number and keeps every observation.

    A judgement may require more attempts (a written sequential rule decides how many, see
    ``judge.stats``); no attempt is ever repeated or dropped. ``on_attempt`` receives each
    observation at once, so that it is on disk before anything is judged; also that of an attempt that broke.
    ``decided`` returns whether the test's verdict is certain, whatever more attempts would show.
    """

    def __init__(
        self,
        experiment: Experiment,
        backend: Backend,
        *,
        test_id: str,
        run_seed: int,
        on_attempt: OnAttempt | None = None,
        decided: Callable[[], bool] | None = None,
    ) -> None:
        self.experiment = experiment
        self.backend = backend
        self._test_id = test_id
        self._run_seed = run_seed
        self._on_attempt = on_attempt
        self._decided = decided
        self._attempts: dict[int, Observation] = {}

    def seed(self, attempt: int, role: str = "target") -> int:
        """Return the seed of one random stream of an attempt."""
        return derive_seed(self._run_seed, self._test_id, attempt, role)

    def observe(self, attempt: int = 1) -> Observation:
        """Return the observation of this attempt; perform the attempt unless it is done already."""
        if attempt not in self._attempts:
            seed = self.seed(attempt)
            self._attempts[attempt] = observe(
                self.experiment, self.backend, seed, attempt, keep=self._on_attempt
            )
        return self._attempts[attempt]

    @property
    def decided(self) -> bool:
        """Return whether the test has failed already: more attempts would change nothing."""
        return self._decided is not None and self._decided()

    @property
    def observations(self) -> tuple[Observation, ...]:
        """Return the observations of all attempts so far, in order."""
        return tuple(self._attempts[n] for n in sorted(self._attempts))
