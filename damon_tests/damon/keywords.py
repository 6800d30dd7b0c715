# SPDX-License-Identifier: GPL-2.0
"""The words that DAMON's files take, with the first kernel series that has each.

In the order of the kernel's enumerations. The series are for messages and for the nearest level; to find out
whether a running kernel has a word, the probe writes it.
"""

from __future__ import annotations

from collections.abc import Mapping

WORDS: Mapping[str, Mapping[str, str]] = {
    "operations": {"vaddr": "5.18", "fvaddr": "5.19", "paddr": "5.18"},
    "action": {
        "willneed": "5.18",
        "cold": "5.18",
        "pageout": "5.18",
        "hugepage": "5.18",
        "nohugepage": "5.18",
        "collapse": "7.2",
        "lru_prio": "6.0",
        "lru_deprio": "6.0",
        "migrate_hot": "6.11",
        "migrate_cold": "6.11",
        "stat": "5.18",
    },
    "filter_type": {
        "anon": "6.3",
        "active": "6.15",
        "memcg": "6.3",
        "young": "6.10",
        "hugepage_size": "6.15",
        "unmapped": "6.15",
        "addr": "6.6",
        "target": "6.6",
    },
    "core_filter_type": {"addr": "6.15", "target": "6.15"},
    "ops_filter_type": {
        "anon": "6.15",
        "active": "6.15",
        "memcg": "6.15",
        "young": "6.15",
        "hugepage_size": "6.15",
        "unmapped": "6.15",
    },
    "probe_filter_type": {"anon": "7.2", "memcg": "7.2"},
    "goal_metric": {
        "user_input": "6.9",
        "some_mem_psi_us": "6.9",
        "node_mem_used_bp": "6.16",
        "node_mem_free_bp": "6.16",
        "node_memcg_used_bp": "6.19",
        "node_memcg_free_bp": "6.19",
        "active_mem_bp": "7.0",
        "inactive_mem_bp": "7.0",
        "node_eligible_mem_bp": "7.2",
    },
    "goal_tuner": {"consist": "7.1", "temporal": "7.1"},
    "watermark_metric": {"none": "5.18", "free_mem_rate": "5.18"},
}

COMMANDS: Mapping[str, str] = {
    "on": "5.18",
    "off": "5.18",
    "commit": "5.19",
    "commit_schemes_quota_goals": "6.8",
    "update_schemes_stats": "5.18",
    "update_schemes_tried_bytes": "6.6",
    "update_schemes_tried_regions": "6.2",
    "clear_schemes_tried_regions": "6.2",
    "update_schemes_effective_quotas": "6.9",
    "update_tuned_intervals": "6.15",
}
"""The commands that ``state`` takes."""
