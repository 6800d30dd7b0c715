# SPDX-License-Identifier: GPL-2.0
"""Lines of text about what the schemes of a recording did: counters, quotas, tried regions."""

from __future__ import annotations

from damon_tests.damon.recording_file import Saved
from damon_tests.damon.records import SchemeReport
from damon_tests.report import wording


def scheme_lines(saved: Saved) -> list[str]:
    """Return a line for each scheme whose counters were kept."""
    schemes = saved.about.ctx.schemes if saved.about.ctx else ()
    actions = [scheme.action for scheme in schemes] if len(schemes) == len(saved.schemes) else []
    return [
        f"scheme {i}{f' ({actions[i]})' if actions else ''}: {_reported(report)}"
        for i, report in enumerate(saved.schemes)
    ]


def _reported(report: SchemeReport) -> str:
    """Return such as "tried 12 times, 24 MiB; applied 12 times, 24 MiB; quota exceeded 2 times"."""
    stats = report.stats
    parts = [
        f"tried {wording.plural(stats.nr_tried, 'time')}, {wording.size(stats.sz_tried)}",
        f"applied {wording.plural(stats.nr_applied, 'time')}, {wording.size(stats.sz_applied)}",
        f"quota exceeded {wording.plural(stats.qt_exceeds, 'time')}",
    ]
    if report.effective_bytes:
        parts.append(f"effective quota {wording.size(report.effective_bytes)}")
    for tried in report.tried:
        size = int(tried.regions.sizes.sum())
        parts.append(
            f"at the end {wording.plural(len(tried.regions), 'region')} of {wording.size(size)} tried"
        )
    return "; ".join(parts)
