# SPDX-License-Identifier: GPL-2.0
"""The names of DAMON's features, as requirements, reports and capability probing use them.

| name | stands for | example |
|---|---|---|
| ``ops.NAME`` | an operations set in ``avail_operations`` | ``ops.vaddr``, ``ops.paddr`` |
| ``EVENT`` | a tracepoint | ``damon_aggregated``, ``damos_esz`` |
| ``commands.WORD`` | a command of ``state`` | ``commands.update_tuned_intervals`` |
| ``kdamond.FIELD``, ``ctx.FIELD`` | a file of those directories | ``kdamond.refresh_ms``, ``ctx.pause`` |
| ``attrs.FIELD`` | a file, or the directory of a list, of ``monitoring_attrs`` | ``attrs.probes`` |
| ``intervals_goal.FIELD``, ``probes.FIELD`` | | ``intervals_goal.access_bp``, ``probes.weight`` |
| ``targets.FIELD`` | | ``targets.obsolete_target`` |
| ``schemes.ACTION`` | an action | ``schemes.stat``, ``schemes.collapse`` |
| ``schemes.FIELD`` | a file or list of a scheme | ``schemes.dests``, ``schemes.max_nr_snapshots`` |
| ``access_pattern.FIELD``, ``dests.FIELD`` | | ``dests.weight`` |
| ``quotas.FIELD`` | | ``quotas.goals``, ``quotas.fail_charge_num``, ``quotas.effective_bytes`` |
| ``goals.METRIC``, ``goals.FIELD`` | | ``goals.some_mem_psi_us``, ``goals.nid`` |
| ``goal_tuners.WORD`` | | ``goal_tuners.temporal`` |
| ``filters.TYPE``, ``filters.FIELD`` | those of ``filters/`` | ``filters.young``, ``filters.allow`` |
| ``core_filters.…``, ``ops_filters.…``, ``probe_filters.…`` | the same of theirs | ``ops_filters.active`` |
| ``watermarks.METRIC``, ``watermarks.FIELD`` | | ``watermarks.free_mem_rate`` |
| ``stats.FILE``, ``tried_regions.FILE`` | what is reported | ``stats.nr_snapshots`` |
| ``modules.NAME``, ``modules.NAME.PARAMETER`` | | ``modules.damon_stat.kdamond_pid`` |

Operations sets may also be named alone (``vaddr``), and ``ctx.pause`` and ``ctx.addr_unit`` as ``attrs.…``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from damon_tests.damon import layout
from damon_tests.damon.keywords import COMMANDS, WORDS

By = Literal["file", "word", "ops", "event", "module", "companion"]

LEVELS = ("6.12", "6.16", "6.17", "6.18", "6.19", "7.0", "7.1", "7.2", "7.3")
"""The kernel series that the specification covers."""


@dataclass(frozen=True)
class Feature:
    """``since``: the first kernel series with it. ``by``: how the probe detects it: "file" at ``path`` below
    ``kdamonds/0`` (one of everything created), "word" that the file at ``path`` takes, "ops", "event" or
    "module" (parameter file ``path``) by name, "companion": present if the feature ``path`` is."""

    name: str
    since: str
    by: By
    path: str = ""


def version_key(version: str) -> tuple[int, ...]:
    """Return a sort key for versions: "6.12" sorts after "6.9"."""
    return tuple(int(part) for part in version.split("."))


# The prefixes of the names of each node's fields and words, by identity of the node.
_PREFIXES: tuple[tuple[layout.Node, str, str], ...] = (
    (layout.KDAMOND, "kdamond", ""),
    (layout.CTX, "ctx", ""),
    (layout.ATTRS, "attrs", ""),
    (layout.INTERVALS_GOAL, "intervals_goal", ""),
    (layout.PROBE, "probes", ""),
    (layout.PROBE_FILTER, "probe_filters", "probe_filters"),
    (layout.TARGET, "targets", ""),
    (layout.REGION, "regions", ""),
    (layout.SCHEME, "schemes", "schemes"),
    (layout.ACCESS_PATTERN, "access_pattern", ""),
    (layout.QUOTA, "quotas", "goal_tuners"),
    (layout.GOAL, "goals", "goals"),
    (layout.WATERMARKS, "watermarks", "watermarks"),
    (layout.CORE_FILTER, "core_filters", "core_filters"),
    (layout.OPS_FILTER, "ops_filters", "ops_filters"),
    (layout.FILTER, "filters", "filters"),
    (layout.DEST, "dests", ""),
)


def _prefixes(node: layout.Node) -> tuple[str, str]:
    return next((fields, words) for other, fields, words in _PREFIXES if other is node)


def _of_node(node: layout.Node, directory: str) -> list[Feature]:
    fields, words = _prefixes(node)
    features: list[Feature] = []
    for file in node.files:
        path = f"{directory}{file.path}"
        features.append(Feature(f"{fields}.{file.field}", file.since, "file", path))
        if file.words and words:
            features += [Feature(f"{words}.{w}", s, "word", path) for w, s in WORDS[file.words].items()]
    for sub in node.subs:
        if sub.since != layout.SYSFS_SINCE:
            first = sub.node.files[0].path
            features.append(
                Feature(f"{fields}.{sub.field}", sub.since, "file", f"{directory}{sub.path}/{first}")
            )
        features += _of_node(sub.node, f"{directory}{sub.path}/")
    for many in node.lists:
        features.append(
            Feature(f"{fields}.{many.field}", many.since, "file", f"{directory}{many.count_path}")
        )
        features += _of_node(many.node, f"{directory}{many.path}/0/")
    return features


_SCHEME = "contexts/0/schemes/0"

_RESULTS = (
    *(
        Feature(f"stats.{name}", since, "file", f"{_SCHEME}/stats/{name}")
        for name, since in {
            "nr_tried": "5.18",
            "sz_tried": "5.18",
            "nr_applied": "5.18",
            "sz_applied": "5.18",
            "qt_exceeds": "5.18",
            "sz_ops_filter_passed": "6.14",
            "nr_snapshots": "7.0",
        }.items()
    ),
    Feature("quotas.effective_bytes", "6.9", "file", f"{_SCHEME}/quotas/effective_bytes"),
    Feature("tried_regions.total_bytes", "6.6", "file", f"{_SCHEME}/tried_regions/total_bytes"),
    # These files exist only after regions were tried; the features named last came with the same releases.
    Feature("tried_regions.sz_filter_passed", "6.14", "companion", "stats.sz_ops_filter_passed"),
    Feature("tried_regions.probe_hits", "7.2", "companion", "attrs.probes"),
)

# Unknown commands and commands to a stopped kdamond both fail with EINVAL, so commands cannot be tried.
_COMMAND_COMPANIONS = {
    "commit_schemes_quota_goals": "quotas.goals",
    "update_schemes_tried_bytes": "tried_regions.total_bytes",
    "update_schemes_effective_quotas": "quotas.effective_bytes",
    "update_tuned_intervals": "attrs.intervals_goal",
}

_EVENTS = {
    "damon_aggregated": "5.15",
    "damos_before_apply": "6.7",
    "damos_esz": "6.17",
    "damon_monitor_intervals_tune": "6.17",
    "damos_stat_after_apply_interval": "7.0",
    "damon_region_aggregated": "7.2",
}

_MODULES = {
    "damon_reclaim": {
        "": "5.16",
        "skip_anon": "6.3",
        "quota_mem_pressure_us": "6.9",
        "quota_autotune_feedback": "6.9",
        "addr_unit": "6.18",
        "autotune_monitoring_intervals": "7.2",
    },
    "damon_lru_sort": {
        "": "6.0",
        "addr_unit": "6.18",
        "active_mem_bp": "7.0",
        "filter_young_pages": "7.0",
        "autotune_monitoring_intervals": "7.0",
    },
    "damon_stat": {"": "6.17", "aggr_interval_us": "6.18", "kdamond_pid": "7.2"},
}


def _module_features() -> list[Feature]:
    features = []
    for module, parameters in _MODULES.items():
        for parameter, since in parameters.items():
            name = f"modules.{module}.{parameter}" if parameter else f"modules.{module}"
            path = f"/sys/module/{module}/parameters/{parameter or 'enabled'}"
            features.append(Feature(name, since, "module", path))
    return features


FEATURES: Mapping[str, Feature] = {
    feature.name: feature
    for feature in (
        *(Feature(f"ops.{name}", since, "ops", name) for name, since in WORDS["operations"].items()),
        *(Feature(name, since, "event", name) for name, since in _EVENTS.items()),
        *(
            Feature(f"commands.{word}", since, "companion", _COMMAND_COMPANIONS.get(word, "ctx.operations"))
            for word, since in COMMANDS.items()
        ),
        *_of_node(layout.KDAMOND, ""),
        *_RESULTS,
        *_module_features(),
    )
}

ALIASES: Mapping[str, str] = {
    **{name: f"ops.{name}" for name in WORDS["operations"]},
    "attrs.pause": "ctx.pause",
    "attrs.addr_unit": "ctx.addr_unit",
}


def feature_at(path: str, word: str | None = None) -> Feature | None:
    """Return the feature of a file of the tree, or of a ``word`` that the file takes; None if it has none.

    ``path``: of a file below ``kdamonds/N/``, with any numbers of directories.
    """
    below = path.rpartition(f"{layout.KDAMONDS.path}/")[2].partition("/")[2]
    normal = "/".join("0" if part.isdecimal() else part for part in below.split("/"))
    if word is None:
        return next((f for f in FEATURES.values() if f.by == "file" and f.path == normal), None)
    if normal == "contexts/0/operations":
        return FEATURES.get(f"ops.{word}")
    words = (f for f in FEATURES.values() if f.by == "word" and f.path == normal)
    return next((f for f in words if f.name.rpartition(".")[2] == word), None)
