# SPDX-License-Identifier: GPL-2.0
"""A scheme's quota while it runs: charge windows, effective size, continuation (§4.4 to §4.6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from damon_tests.damon.params import DamosQuota
from damon_tests.reference.rules.monitoring import BP, U64_MAX
from damon_tests.reference.rules.ruleset import Rules


class Quota:
    """``effective_size`` (esz), charges and the continuation point survive commits."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.effective_size = 0
        self.effective_bp = 0
        self.charged_sz = 0
        self.charged_from = 0
        self.total_charged_sz = 0
        self.total_charged_ns = 0
        self.min_score = 0
        # Where the next window goes on: a target (any object) and an address.
        self.continue_target: object | None = None
        self.continue_at = 0
        # Baselines of pressure goals, by index: the total at the last evaluation.
        self.psi_seen: dict[int, int] = {}

    def is_set(self, params: DamosQuota) -> bool:
        return bool(self.effective_size or params.bytes or params.ms or params.goals)

    def is_full(self, params: DamosQuota, min_region_sz: int) -> bool:
        return self.rules.quota_is_full(
            self.is_set(params), self.charged_sz, self.effective_size, min_region_sz
        )

    def cut(self, params: DamosQuota, size: int, min_region_sz: int) -> int | None:
        """Return how much of a region of ``size`` may be applied to; None: all."""
        return self.rules.quota_cut(
            self.is_set(params), self.charged_sz, self.effective_size, size, min_region_sz
        )

    def adjust_window(
        self,
        params: DamosQuota,
        now_jiffies: int,
        min_region_sz: int,
        achievements: Callable[[], Sequence[tuple[int, int]]],
        on_esz: Callable[[int], None],
    ) -> bool:
        """Begin a new charge window if it is time. Returns whether the old one ended full.

        ``achievements`` gives (current, target) of the goals now; ``on_esz`` is called with the effective
        size of the first window, and with each size that differs from the last.
        """
        rules, exceeded = self.rules, False
        if not self.total_charged_sz and not self.charged_from:
            self.charged_from = now_jiffies
            self.set_effective_size(params, min_region_sz, achievements)
            self.effective_size = rules.first_window_size(self.effective_size)
            on_esz(self.effective_size)
        if rules.window_has_passed(now_jiffies, self.charged_from, params.reset_interval_ms):
            exceeded = self.is_full(params, min_region_sz)
            self.total_charged_sz += self.charged_sz
            self.charged_from = now_jiffies
            self.charged_sz = rules.charge_at_window_start(self.charged_sz)
            before = self.effective_size
            self.set_effective_size(params, min_region_sz, achievements)
            if self.effective_size != before:
                on_esz(self.effective_size)
        return exceeded

    def set_effective_size(
        self,
        params: DamosQuota,
        min_region_sz: int,
        achievements: Callable[[], Sequence[tuple[int, int]]],
    ) -> None:
        """Set the effective size: the smallest of what goals, time and size allow."""
        rules = self.rules
        if not params.ms and not params.goals:
            self.effective_size = params.bytes
            return
        size = U64_MAX
        if params.goals:
            tuner = rules.temporal_tuner if params.goal_tuner == "temporal" else rules.consist_tuner
            self.effective_bp = tuner(self.effective_bp, rules.goal_score(achievements()), params.bytes)
            size = self.effective_bp // BP
        if params.ms:
            allowed = rules.time_quota_size(
                params.ms, self.total_charged_sz, self.total_charged_ns, min_region_sz
            )
            size = min(size, allowed)
        if params.bytes:
            size = min(size, params.bytes)
        self.effective_size = size

    def commit_goals(self, count: int) -> None:
        """Keep the baselines of the first ``count`` goals, which a commit matches by index."""
        kept = 0 if self.rules.commit_restarts_pressure else count
        self.psi_seen = {index: total for index, total in self.psi_seen.items() if index < kept}

    def charge(self, params: DamosQuota, size: int, applied: int) -> None:
        self.charged_sz += self.rules.charged_size(
            size, applied, params.fail_charge_num, params.fail_charge_denom
        )

    def remember(self, target: object, address: int) -> None:
        """Note where the quota ran out: the next window goes on behind."""
        self.continue_target, self.continue_at = target, address

    def forget(self) -> None:
        self.continue_target, self.continue_at = None, 0
