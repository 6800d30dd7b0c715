# SPDX-License-Identifier: GPL-2.0
"""Judge what schemes did: regions tried, memory changed by each action, quotas and filters kept.

Begin at ``watched_passes`` (which regions each pass tried) and ``quota_passes``, from which ``quotas``
replays charge windows. A module each for filters, goals, priorities, statistics, watermarks and the effects
on pages.
"""
