# SPDX-License-Identifier: GPL-2.0
"""Judge what schemes did: regions tried, memory changed by each action, quotas and filters kept.

Begin at ``watched_passes`` (which regions each pass tried) and ``quota_passes``, from which ``quotas`` and
``time_quotas`` replay charge windows. ``priorities``: what a quota selects; ``goals`` and ``goal_metrics``:
the tuners. ``effects`` measures what an action did to pages, ``filters`` and ``young_filter`` compute what
filters let through, ``watermarks`` when a scheme is active. ``stats`` and ``tried_regions`` judge what sysfs
reports, ``moving_values`` the access rate in mid-window.

What passes do to regions: ``split_points``, ``split_growth``, ``merged_counters``, ``age_resets``. Of real
programs: ``needed_memory``. ``quota_chart`` draws passes.
"""
