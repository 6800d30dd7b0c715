# SPDX-License-Identifier: GPL-2.0
"""Map fields of requests to files of the tree: the table for staging and for reading back.

A ``Node`` describes the directory of a request class; its paths are relative to that directory.
``since`` is the first kernel series with the file (facts: the sysfs ABI of 6.12 to 7.3); it is only
for messages: whether a kernel has a file is decided by looking for the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

from damon_tests.damon import params
from damon_tests.damon.keywords import WORDS
from damon_tests.ports import HarnessError

Kind = Literal["number", "bool", "word", "path"]
Value = int | bool | str

SYSFS_SINCE = "5.18"
"""First kernel with DAMON's sysfs interface; the default ``since``."""


@dataclass(frozen=True)
class File:
    """A field that is one file. ``words``: the table of ``keywords.WORDS`` that has its values."""

    field: str
    path: str
    kind: Kind = "number"
    since: str = SYSFS_SINCE
    words: str = ""


@dataclass(frozen=True)
class Sub:
    """A field whose value is itself a request, in a sub-directory."""

    field: str
    path: str
    node: Node
    since: str = SYSFS_SINCE


@dataclass(frozen=True)
class Many:
    """A tuple of requests: numbered directories below ``path``, their number in ``path/count``."""

    field: str
    path: str
    count: str
    node: Node
    since: str = SYSFS_SINCE

    @property
    def count_path(self) -> str:
        return f"{self.path}/{self.count}"


@dataclass(frozen=True)
class Node:
    """The directory of a request class. ``make`` builds a request from its fields by keyword.

    ``fixed``: count files that must hold a constant before the other files exist."""

    make: Callable[..., Any]
    files: tuple[File, ...] = ()
    subs: tuple[Sub, ...] = ()
    lists: tuple[Many, ...] = ()
    fixed: tuple[tuple[str, int], ...] = ()


class Range(NamedTuple):
    """An initial region; equal to the plain (start, end) tuple of a request."""

    start: int = 0
    end: int = 0


def _numbers(*names: str, prefix: str = "", since: str = SYSFS_SINCE) -> tuple[File, ...]:
    return tuple(File(name, prefix + name, since=since) for name in names)


def _min_max(field: str, directory: str) -> tuple[File, ...]:
    return (File(f"{field}_min", f"{directory}/min"), File(f"{field}_max", f"{directory}/max"))


def _filter_files(words: str, since: str, addr_since: str, allow_since: str) -> tuple[File, ...]:
    return (
        File("type", "type", "word", since, words),
        File("matching", "matching", "bool", since),
        File("allow", "allow", "bool", allow_since),
        File("memcg_path", "memcg_path", "path", since),
        *_numbers("addr_start", "addr_end", "damon_target_idx", since=addr_since),
        *_numbers("min", "max", since="6.15"),
    )


REGION = Node(Range, files=_numbers("start", "end"))

TARGET = Node(
    params.DamonTarget,
    files=(File("pid_target", "pid_target"), File("obsolete_target", "obsolete_target", "bool", "6.19")),
    lists=(Many("regions", "regions", "nr_regions", REGION),),
)

PROBE_FILTER = Node(
    params.DamonProbeFilter,
    files=(
        File("type", "type", "word", "7.2", "probe_filter_type"),
        File("matching", "matching", "bool", "7.2"),
        File("allow", "allow", "bool", "7.2"),
        File("path", "path", "path", "7.2"),
    ),
)

PROBE = Node(
    params.DamonProbe,
    files=_numbers("weight", since="7.3"),
    lists=(Many("filters", "filters", "nr_filters", PROBE_FILTER, "7.2"),),
)

INTERVALS_GOAL = Node(
    params.DamonIntervalsGoal,
    files=_numbers("access_bp", "aggrs", "min_sample_us", "max_sample_us", since="6.15"),
)

ATTRS = Node(
    params.DamonAttrs,
    files=(
        *_numbers("sample_us", "aggr_us", "update_us", prefix="intervals/"),
        File("min_nr_regions", "nr_regions/min"),
        File("max_nr_regions", "nr_regions/max"),
    ),
    subs=(Sub("intervals_goal", "intervals/intervals_goal", INTERVALS_GOAL, "6.15"),),
    lists=(Many("probes", "probes", "nr_probes", PROBE, "7.2"),),
)

GOAL = Node(
    params.DamosQuotaGoal,
    files=(
        File("target_metric", "target_metric", "word", "6.9", "goal_metric"),
        *_numbers("target_value", "current_value", since="6.8"),
        *_numbers("nid", since="6.16"),
        File("path", "path", "path", "6.19"),
    ),
)

QUOTA = Node(
    params.DamosQuota,
    files=(
        *_numbers("ms", "bytes", "reset_interval_ms"),
        File("weight_sz_permil", "weights/sz_permil"),
        File("weight_nr_accesses_permil", "weights/nr_accesses_permil"),
        File("weight_age_permil", "weights/age_permil"),
        File("goal_tuner", "goal_tuner", "word", "7.1", "goal_tuner"),
        *_numbers("fail_charge_num", "fail_charge_denom", since="7.2"),
    ),
    lists=(Many("goals", "goals", "nr_goals", GOAL, "6.8"),),
)

WATERMARKS = Node(
    params.DamosWatermarks,
    files=(
        File("metric", "metric", "word", words="watermark_metric"),
        *_numbers("interval_us", "high", "mid", "low"),
    ),
)

ACCESS_PATTERN = Node(
    params.DamosAccessPattern,
    files=(*_min_max("sz", "sz"), *_min_max("nr_accesses", "nr_accesses"), *_min_max("age", "age")),
)

CORE_FILTER = Node(params.DamosFilter, files=_filter_files("core_filter_type", "6.15", "6.15", "6.15"))
OPS_FILTER = Node(params.DamosFilter, files=_filter_files("ops_filter_type", "6.15", "6.15", "6.15"))
FILTER = Node(params.DamosFilter, files=_filter_files("filter_type", "6.3", "6.6", "6.14"))

DEST = Node(params.DamosDest, files=_numbers("id", "weight", since="6.17"))

SCHEME = Node(
    params.Damos,
    files=(
        File("action", "action", "word", words="action"),
        File("apply_interval_us", "apply_interval_us", since="6.7"),
        File("target_nid", "target_nid", since="6.11"),
        # A parameter, although its file is in ``stats/``.
        File("max_nr_snapshots", "stats/max_nr_snapshots", since="7.0"),
    ),
    subs=(
        Sub("access_pattern", "access_pattern", ACCESS_PATTERN),
        Sub("quota", "quotas", QUOTA),
        Sub("watermarks", "watermarks", WATERMARKS),
    ),
    lists=(
        Many("core_filters", "core_filters", "nr_filters", CORE_FILTER, "6.15"),
        Many("ops_filters", "ops_filters", "nr_filters", OPS_FILTER, "6.15"),
        Many("filters", "filters", "nr_filters", FILTER, "6.3"),
        Many("dests", "dests", "nr_dests", DEST, "6.17"),
    ),
)

CTX = Node(
    params.DamonCtx,
    files=(
        File("operations", "operations", "word", words="operations"),
        File("addr_unit", "addr_unit", since="6.18"),
        File("pause", "pause", "bool", "7.2"),
    ),
    subs=(Sub("attrs", "monitoring_attrs", ATTRS),),
    lists=(
        Many("targets", "targets", "nr_targets", TARGET),
        Many("schemes", "schemes", "nr_schemes", SCHEME),
    ),
)

KDAMOND = Node(
    params.Kdamond,
    files=(File("refresh_ms", "refresh_ms", since="6.17"),),
    subs=(Sub("ctx", "contexts/0", CTX),),
    fixed=(("contexts/nr_contexts", 1),),
)

KDAMONDS = Many("kdamonds", "kdamonds", "nr_kdamonds", KDAMOND)


@dataclass(frozen=True)
class Write:
    """A value to stage: ``path`` below the root, the text, and the file's description."""

    path: str
    text: str
    since: str = SYSFS_SINCE
    words: str = ""

    @property
    def word_since(self) -> str | None:
        """Return the first kernel series that takes this word; None for an unknown word or another value."""
        return WORDS[self.words].get(self.text) if self.words else None


def encode(kind: Kind, value: Value) -> str:
    """Return the text to write."""
    if kind == "bool":
        return "Y" if value else "N"
    return str(value)


def decode(kind: Kind, text: str, path: str) -> Value:
    """Return the value of a text that was read. Raises HarnessError naming the path for another kind."""
    if kind == "path":  # the kernel keeps it verbatim, including the writer's newline
        return text.rstrip("\n")
    text = text.removesuffix("\n")
    if kind == "word":
        return text
    if kind == "bool" and text in ("Y", "N"):
        return text == "Y"
    if kind == "number" and text.removeprefix("-").isdecimal():
        return int(text)
    raise HarnessError(f"{path} reads {text!r}, which is no {kind}")


def fresh(node: Node) -> Any:
    """Return the request that a newly created directory of this kind represents."""
    return node.make()


def children(many: Many, value: Any) -> Sequence[Any]:
    """Return the elements of a list field, as objects with the node's field names."""
    elements = getattr(value, many.field)
    return [Range(*e) for e in elements] if many.node is REGION else elements


def read_node(node: Node, directory: str, texts: Mapping[str, str]) -> Any:
    """Build the request of ``directory`` from ``texts`` (the text by path below the root).

    A missing file leaves the field at its default. Raises HarnessError for unreadable values.
    """
    fields: dict[str, Any] = {}
    for file in node.files:
        path = f"{directory}/{file.path}"
        if path in texts:
            fields[file.field] = decode(file.kind, texts[path], path)
    for sub in node.subs:
        fields[sub.field] = read_node(sub.node, f"{directory}/{sub.path}", texts)
    for many in node.lists:
        fields[many.field] = read_many(many, directory, texts)
    return node.make(**fields)


def read_many(many: Many, directory: str, texts: Mapping[str, str]) -> tuple[Any, ...]:
    """Return the elements of a list, by its count file; empty when there is no such file."""
    base = f"{directory}/{many.path}" if directory else many.path
    count_path = f"{base}/{many.count}"
    if count_path not in texts:
        return ()
    count = int(decode("number", texts[count_path], count_path))
    elements = (read_node(many.node, f"{base}/{i}", texts) for i in range(count))
    # Plain tuples, so that requests that are read back have the types of those that were staged.
    return tuple(tuple(e) if many.node is REGION else e for e in elements)


def writes_of(node: Node, directory: str, value: Any, current: Any) -> list[Write]:
    """Return the writes, in order, that turn ``directory`` from ``current`` into ``value``.

    Write only differences; if the length of a list changes, create the list afresh by its count file,
    which resets all of its elements.
    """
    writes: list[Write] = []
    for file in node.files:
        wanted = getattr(value, file.field)
        if wanted != getattr(current, file.field):
            text = encode(file.kind, wanted)
            writes.append(Write(f"{directory}/{file.path}", text, file.since, file.words))
    for sub in node.subs:
        path = f"{directory}/{sub.path}"
        writes += writes_of(sub.node, path, getattr(value, sub.field), getattr(current, sub.field))
    for many in node.lists:
        writes += _list_writes(many, directory, value, current)
    return writes


def _list_writes(many: Many, directory: str, value: Any, current: Any) -> list[Write]:
    wanted, have = children(many, value), children(many, current)
    writes: list[Write] = []
    if len(wanted) != len(have) or not all(map(partial(_reachable, many.node), wanted, have)):
        writes.append(Write(f"{directory}/{many.count_path}", str(len(wanted)), many.since))
        have = [fresh(many.node)] * len(wanted)
    for i, (w, h) in enumerate(zip(wanted, have, strict=True)):
        writes += writes_of(many.node, f"{directory}/{many.path}/{i}", w, h)
    return writes


def new_kdamond_writes(index: int, kdamond: params.Kdamond) -> list[Write]:
    """Return the writes for a newly created kdamond directory."""
    directory = f"{KDAMONDS.path}/{index}"
    writes = [Write(f"{directory}/{path}", str(count)) for path, count in KDAMOND.fixed]
    return writes + writes_of(KDAMOND, directory, kdamond, fresh(KDAMOND))


def _reachable(node: Node, wanted: Any, current: Any) -> bool:
    """Return whether writes can turn ``current`` into ``wanted``. Only a new directory has an empty path (an
    empty write has no effect), or a core filter of the type that its file does not take."""
    for file in node.files:
        value = getattr(wanted, file.field)
        if value == getattr(current, file.field) or value != getattr(fresh(node), file.field):
            continue
        if value == "" or (file.kind == "word" and value not in WORDS[file.words]):
            return False
    return True


@dataclass(frozen=True)
class Leaf:
    """A file of a request: the value that it should hold, and the default."""

    path: str
    kind: Kind
    value: Value
    default: Value | None


def leaves_of(node: Node, directory: str, value: Any) -> list[Leaf]:
    """Return every file that a request represents, defaults included."""
    plain = fresh(node)
    leaves = [Leaf(f"{directory}/{path}", "number", count, None) for path, count in node.fixed]
    leaves += [
        Leaf(f"{directory}/{f.path}", f.kind, getattr(value, f.field), getattr(plain, f.field))
        for f in node.files
    ]
    for sub in node.subs:
        leaves += leaves_of(sub.node, f"{directory}/{sub.path}", getattr(value, sub.field))
    for many in node.lists:
        elements = children(many, value)
        leaves.append(Leaf(f"{directory}/{many.count_path}", "number", len(elements), 0))
        for i, element in enumerate(elements):
            leaves += leaves_of(many.node, f"{directory}/{many.path}/{i}", element)
    return leaves
