# SPDX-License-Identifier: GPL-2.0
"""Differences between kernel series as named properties; no other module compares series.

Judges and suites use a property (``Series.of(run.level).merges_quota_splits_back``), never a version
number. The features of a series (files, words, tracepoints) are in ``damon.features``, the rules of the
reference's levels in ``reference.rules.levels``. Section numbers are those of the specification.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from damon_tests.damon.known_defects import the_table
from damon_tests.ports import UsageError


class Level(str):
    """The series as which a kernel is judged ("6.12"), with the kernel's own release.

    Stable releases of a series differ by the defects that they fixed or introduced
    (``known_defects.yaml``). A level that is a plain string is that of the reference, or of an unknown
    release.
    """

    release: str

    def __new__(cls, series: str, release: str) -> Level:
        level = super().__new__(cls, series)
        level.release = release
        return level

    def __reduce__(self) -> tuple[type[Level], tuple[str, str]]:
        """Return how ``copy`` and ``pickle`` make another one."""
        return Level, (str(self), self.release)


@dataclass(frozen=True)
class Series:
    """A kernel series, such as 7.3. Deliberately without an order.

    ``release``: the kernel's own, which may have known defects ("6.12.117+deb13"); empty: the reference.
    """

    major: int
    minor: int
    release: str = field(default="", compare=False)

    @classmethod
    def of(cls, level: str) -> Series:
        """Return the series of "7.3", or of a release such as "7.3.4". Raises UsageError for anything
        else."""
        try:
            major, minor = level.split(".")[:2]
            return cls(int(major), int(minor), level.release if isinstance(level, Level) else "")
        except ValueError:
            raise UsageError(f"{level!r} is not a kernel series such as 7.3") from None

    def has_defect(self, key: str) -> bool:
        """Return whether the release has a known defect. The reference has only those that it models."""
        defect = the_table()[key]
        return defect.applies(str(self), self.release) and bool(self.release or not defect.kernels_only)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    def _since(self, major: int, minor: int) -> bool:
        return (self.major, self.minor) >= (major, minor)

    # Regions and counters (§2)

    @property
    def restarts_age_at_zero(self) -> bool:
        """An age restarts whenever accesses begin or end (I33); before, only when they change by more than
        the merge threshold."""
        return self._since(6, 15)

    @property
    def ages_once_per_aggregation(self) -> bool:
        """An age grows by 1 in each aggregation; by a defect of releases before 7.2 once in each pass of
        merging (I29)."""
        return not self.has_defect("age-per-merge-pass")

    @property
    def enforces_min_nr_regions(self) -> bool:
        """Regions above the limit that min_nr_regions implies are cut, and the limit is rounded up to the
        minimum region size; before, it only limits merging (§2.6)."""
        return self._since(7, 1)

    @property
    def splits_near_max_nr_regions(self) -> bool:
        """Above half of max_nr_regions some regions are still split (§2.7); before, none."""
        return self._since(7, 3)

    @property
    def computes_moving_values_exactly(self) -> bool:
        """The access frequency for users is computed on demand; before, it is kept in steps that truncate,
        and may differ by 1 (§2.9, I20)."""
        return self._since(7, 3)

    # Commits and commands (§5.4, §5.6)

    @property
    def serves_commands_at_next_sample(self) -> bool:
        """A command is served after the next sample; before, a commit waits for the aggregation."""
        return self._since(6, 15)

    @property
    def waits_for_tried_regions(self) -> bool:
        """A request for tried regions waits for a pass; before, it gives up after two apply intervals and
        reports no regions."""
        return self._since(6, 15)

    @property
    def survives_refused_commit(self) -> bool:
        """A commit that is refused leaves the kdamond running; before, the kdamond ends."""
        return self._since(6, 15)

    @property
    def keeps_window_on_equal_commit(self) -> bool:
        """A commit that changes no interval leaves the aggregation window and the apply intervals as they
        are; before, any commit restarts them (§8.2)."""
        return self._since(6, 18)

    @property
    def cancels_commands_when_stopped(self) -> bool:
        """Commands to a stopped kdamond fail with ECANCELED; before, with EINVAL."""
        return self._since(7, 0)

    @property
    def refuses_commands_without_context(self) -> bool:
        """A command while nr_contexts is 0 is refused; by a defect of 6.16 to 6.19 it crashes (§8.3, 53)."""
        return not self.has_defect("command-without-context")

    @property
    def survives_goals_of_absent_nodes(self) -> bool:
        """A quota goal of a node that does not exist is neutral; by a defect of 6.16 to 7.0 it crashes."""
        return not self.has_defect("goal-of-absent-node")

    @property
    def allows_off_when_stopped(self) -> bool:
        """``off`` to a stopped kdamond succeeds; before, it fails with EPERM."""
        return self._since(7, 3)

    # Schemes (§4)

    @property
    def traces_statistics(self) -> bool:
        """Each pass of a scheme is followed by damos_stat_after_apply_interval (§7)."""
        return self._since(7, 0)

    @property
    def visits_rest_of_split_region(self) -> bool:
        """If a scheme splits a region, the rest is visited in the same pass; before, in the next pass, so
        that a window that continues in the last region skips its rest. 6.12.117 does as 7.2 does."""
        return self._since(7, 2) or self.has_defect("split-rest-visited-in-same-pass")

    @property
    def merges_quota_splits_back(self) -> bool:
        """Regions that a quota split are merged again after the pass; before, at aggregations only."""
        return self._since(7, 2)

    @property
    def migrates_in_vaddr(self) -> bool:
        """vaddr and fvaddr know migrate_hot and migrate_cold."""
        return self._since(6, 17)

    @property
    def filters_pages_of_vaddr_stat(self) -> bool:
        """``stat`` on virtual memory applies the page filters."""
        return self._since(6, 18)

    @property
    def activates_in_one_step(self) -> bool:
        """lru_prio activates a page at its first visit; before, the first visit marks it accessed."""
        return self._since(7, 0)

    @property
    def collapses(self) -> bool:
        """The action collapse exists."""
        return self._since(7, 2)

    # Quotas and goals (§4.4 to §4.6)

    @property
    def limits_first_window(self) -> bool:
        """The first window of a reset interval has an effective size; by a defect of releases before 6.18
        it may be unlimited (§8.3, 37)."""
        return not self.has_defect("first-window-without-quota")

    @property
    def skips_page_at_continuation(self) -> bool:
        """A window that continues where a region begins skips its first page, by a defect of some
        releases."""
        return self.has_defect("window-skips-a-page")

    @property
    def weighs_only_allowed_memory(self) -> bool:
        """Memory that core filters reject has no part in the priorities of a quota; before, it took the quota
        of memory with lower ones."""
        return self._since(7, 1)

    @property
    def limits_by_zero_quota(self) -> bool:
        """An effective size of 0 means no memory; before, no limit."""
        return self._since(7, 1)

    @property
    def is_full_below_min_region(self) -> bool:
        """A quota is used up when less than a minimum region is left; before, the scheme tries the rest as
        size 0."""
        return self._since(7, 2)

    @property
    def evaluates_goals_twice_at_first(self) -> bool:
        """The very first pass evaluates the goals twice; before, perhaps once."""
        return self._since(6, 18)

    @property
    def traces_first_effective_size(self) -> bool:
        """damos_esz prints the first window's size of a quota without goals; before, only changes (§7)."""
        return self._since(7, 1)

    @property
    def traces_first_tuned_size(self) -> bool:
        """damos_esz always prints the first size of a tuner."""
        return self._since(7, 3)

    @property
    def ignores_pressure_before_start(self) -> bool:
        """The first reading of memory pressure is neutral; before, it is the total since boot (§4.4)."""
        return self._since(7, 3)

    # Modules (§6)

    @property
    def signs_idle_times(self) -> bool:
        """DAMON_STAT's idle time of a region that is accessed is negative; before, it is 0 (§6.3)."""
        return self._since(6, 18)

    @property
    def survives_refused_inputs(self) -> bool:
        """A module whose new parameters are refused keeps running; before, it may end, as documented."""
        return self._since(6, 17)

    @property
    def reports_refused_inputs(self) -> bool:
        """Writing commit_inputs fails with the error of the commit; before, it succeeds."""
        return self._since(7, 2)
