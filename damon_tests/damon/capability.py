# SPDX-License-Identifier: GPL-2.0
"""Probe what a DAMON can do feature by feature, never by its version.

``features`` has the table of names. Most of the tree exists only below staged directories, so a full
probe stages one of everything, turns nothing on, and clears it again; a read-only probe reports what it can.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from damon_tests.damon import layout
from damon_tests.damon.client import DamonClient
from damon_tests.damon.features import ALIASES, FEATURES, LEVELS, Feature, feature_at, version_key
from damon_tests.damon.layout import Write
from damon_tests.ports import Events, NotSupported, Tree, TreeError, UsageError

_NOT_PROBED = "not probed: nothing could be staged"


@dataclass(frozen=True)
class Capabilities:
    """The probed features. ``present``: whether each feature is present; None where it is unknown.

    ``reasons`` says why, for each feature that is absent or unknown. ``unknown``: files and tracepoints
    that no known kernel has (those of a newer kernel). ``staged``: a full probe was made.
    """

    present: Mapping[str, bool | None]
    reasons: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    staged: bool = True

    def has(self, name: str) -> bool:
        """Return whether a feature is known to be present. Raises UsageError for an unknown name."""
        return bool(self.present[_known(name)])

    def missing(self, *names: str) -> tuple[str, ...]:
        """Return the features that are not known to be present, each with reason and first version."""
        lacking = [_known(name) for name in names if not self.has(name)]
        return tuple(
            f"{name}: {self.reasons.get(name, 'not there')} (since {FEATURES[name].since})"
            for name in dict.fromkeys(lacking)
        )

    def require(self, *names: str) -> None:
        """Raise NotSupported naming all of ``names`` that are missing."""
        missing = self.missing(*names)
        if missing:
            features = [FEATURES[_known(name)] for name in names]
            lacking = [f.since for f in features if self.present[f.name] is False and not self._left_out(f)]
            newest = max(lacking, key=version_key, default=None)
            raise NotSupported(*missing, remedy=f"use a kernel of series {newest} or later" if newest else "")

    def refuted_by(self, error: NotSupported) -> TreeError | None:
        """Return the first refusal of a file or word that the probe found to be there; None without one.

        Such a DAMON does not lack the feature: it refuses it, which is wrong.
        """
        for refusal in error.refusals:
            feature = feature_at(refusal.path, refusal.value if refusal.errno == errno.EINVAL else None)
            if feature is not None and self.present[feature.name]:
                refusal.cause = f"{feature.name} was there when this DAMON was probed"
                return refusal
        return None

    def levels(self) -> tuple[str, ...]:
        """Return the levels that fit the features best: usually one, several if too little is known."""
        wrong = {level: len(self.contradicting(level)) for level in LEVELS}
        return tuple(level for level in LEVELS if wrong[level] == min(wrong.values()))

    def contradicting(self, level: str) -> tuple[str, ...]:
        """Return the features that are present although ``level`` lacks them, or the other way round.

        Ignore modules and operations sets: a kernel's configuration may leave them out in any series."""
        return tuple(
            name
            for name, there in self.present.items()
            if there is not None
            and there != (version_key(FEATURES[name].since) <= version_key(level))
            and (there or not self._left_out(FEATURES[name]))
        )

    def _left_out(self, feature: Feature) -> bool:
        if feature.by == "module":
            return not self.present[".".join(feature.name.split(".")[:2])]
        return feature.by == "ops"

    def describe_level(self) -> str:
        """Describe the nearest level, with the features that do not fit."""
        levels = self.levels()
        text = levels[0] if len(levels) == 1 else f"{levels[0]} to {levels[-1]}"
        contradicting = self.contradicting(levels[-1])
        if self.unknown and levels[-1] == LEVELS[-1]:
            return f"{LEVELS[-1]}, the newest known; this kernel is newer (unknown: {_few(self.unknown)})"
        if contradicting:
            return f"{text}, the nearest; not as there: {_few(contradicting)}"
        return text


def fingerprint(capabilities: Capabilities) -> str:
    """Return the nearest of LEVELS by features; the newest if several fit, or if the kernel is newer."""
    return capabilities.levels()[-1]


def probe(client: DamonClient, events: Events | None, touch: bool = True) -> Capabilities:
    """Probe the features of this DAMON.

    With ``touch`` (the caller must hold DAMON exclusively) stage one of everything for a moment, unless
    somebody has staged kdamonds already; without it, write nothing.
    """
    present: dict[str, bool | None] = dict.fromkeys(FEATURES)
    reasons: dict[str, str] = {}
    unknown = _probe_events(events, present, reasons)
    _probe_modules(client.tree, present, reasons)
    staged = False
    usage = client.usage()
    if usage.nr_kdamonds is None:
        _no_tree(client, present, reasons)
    elif touch and usage.nr_kdamonds == 0:
        staged = True
        unknown += _probe_staged(client, present, reasons)
    else:
        why = f"{_NOT_PROBED} (nr_kdamonds is {usage.nr_kdamonds})" if touch else _NOT_PROBED
        _probe_read_only(client, present, reasons, why)
    _infer_companions(present, reasons)
    return Capabilities(present, reasons, tuple(unknown), staged)


# --- by kind of feature ----------------------------------------------------------------------

_Present = dict[str, bool | None]


def _by(kind: str) -> list[Feature]:
    return [feature for feature in FEATURES.values() if feature.by == kind]


def _probe_events(events: Events | None, present: _Present, reasons: dict[str, str]) -> list[str]:
    names = events.available() if events is not None else frozenset()
    for feature in _by("event"):
        present[feature.name] = feature.name in names if names else None
        if not present[feature.name]:
            why = "no such tracepoint" if names else "no tracefs to be seen (mount it, run as root)"
            reasons[feature.name] = why
    return [f"tracepoint {name}" for name in sorted(names - FEATURES.keys())]


def _probe_modules(tree: Tree, present: _Present, reasons: dict[str, str]) -> None:
    features = _by("module")
    for feature, answer in zip(features, tree.read_batch([f.path for f in features]), strict=True):
        there = not (isinstance(answer, TreeError) and answer.errno == errno.ENOENT)
        present[feature.name] = there
        if not there:
            reasons[feature.name] = f"no file {feature.path}"


def _no_tree(client: DamonClient, present: _Present, reasons: dict[str, str]) -> None:
    (answer,) = client.tree.read_batch([f"{client.root}/{layout.KDAMONDS.count_path}"])
    absent = isinstance(answer, TreeError) and answer.errno == errno.ENOENT
    why = (
        "no DAMON sysfs tree (CONFIG_DAMON_SYSFS)"
        if absent
        else f"the DAMON sysfs tree is unreadable: {answer}"
    )
    for feature in FEATURES.values():
        if feature.by in ("file", "word", "ops"):
            present[feature.name] = False if absent else None
            reasons[feature.name] = why.strip()


def _probe_staged(client: DamonClient, present: _Present, reasons: dict[str, str]) -> list[str]:
    """Stage one of everything, list files, try words, clear; return the files that no table has."""
    try:
        files = _create_one_of_everything(client)
        _judge_files(files, present, reasons)
        _judge_ops(files, present, reasons)
        _try_words(client, files, present, reasons)
    finally:
        client.clear()
    known = {feature.path for feature in _by("file")} | _ALWAYS
    return [f"file {path}" for path in sorted(files.keys() - known)]


_ALWAYS = {"state", "pid", "contexts/nr_contexts", "contexts/0/avail_operations"}


def _create_one_of_everything(client: DamonClient) -> dict[str, str]:
    """Stage one of everything; return the files below ``kdamonds/0`` with their values."""
    client.write_all([Write(layout.KDAMONDS.count_path, "1")])
    counts = {f.path for f in _by("file") if f.path.rsplit("/", 1)[-1].startswith("nr_")} | {
        "contexts/nr_contexts"
    }
    while True:
        files = _files(client)
        empty = [
            path
            for path in sorted(counts & files.keys())
            if files[path].strip() == "0" and "stats" not in path
        ]
        if not empty:
            return files
        client.write_all([Write(f"kdamonds/0/{path}", "1") for path in empty])


def _files(client: DamonClient) -> dict[str, str]:
    """Return the first kdamond's files; those that cannot be read now have an empty value."""
    entries = client.tree.walk(f"{client.root}/kdamonds/0")
    return {entry.path: entry.value or "" for entry in entries if not entry.is_dir}


def _judge_files(files: Mapping[str, str], present: _Present, reasons: dict[str, str]) -> None:
    for feature in _by("file"):
        present[feature.name] = feature.path in files
        if feature.path not in files:
            reasons[feature.name] = f"no file {feature.path}"


def _judge_ops(files: Mapping[str, str], present: _Present, reasons: dict[str, str]) -> None:
    available = files.get("contexts/0/avail_operations", "").split()
    for feature in _by("ops"):
        present[feature.name] = feature.path in available
        if feature.path not in available:
            config = "CONFIG_DAMON_PADDR" if feature.path == "paddr" else "CONFIG_DAMON_VADDR"
            reasons[feature.name] = f"avail_operations has {' '.join(available) or 'nothing'} ({config})"


def _try_words(
    client: DamonClient, files: Mapping[str, str], present: _Present, reasons: dict[str, str]
) -> None:
    left: list[Feature] = []
    for feature in _by("word"):
        present[feature.name] = feature.path in files
        if feature.path in files:
            left.append(feature)
        else:
            reasons[feature.name] = f"no file {feature.path}"
    base = f"{client.root}/kdamonds/0"
    while left:
        writes = [(f"{base}/{feature.path}", feature.name.rpartition(".")[2]) for feature in left]
        try:
            client.tree.write_batch(writes)
            return
        except TreeError as error:
            at = writes.index((error.path, error.value or ""))
            refused = left[at]
            present[refused.name] = False
            reasons[refused.name] = f"{refused.path} does not take it ({error.errno_name})"
            left = left[at + 1 :]


def _probe_read_only(client: DamonClient, present: _Present, reasons: dict[str, str], why: str) -> None:
    """Probe what the staged directories show; leave the rest unknown.

    List directories without reading values: reading some files takes DAMON's lock, and the owner of the
    staged directories would get EBUSY."""
    for feature in FEATURES.values():
        if feature.by in ("file", "word", "ops"):
            reasons[feature.name] = why
    files = _list_files(client.tree, f"{client.root}/kdamonds/0", "")
    directories = {path.rpartition("/")[0] for path in files}
    for feature in _by("file"):
        if feature.path in files:
            present[feature.name] = True
            del reasons[feature.name]
        elif feature.path.rpartition("/")[0] in directories:
            present[feature.name] = False
            reasons[feature.name] = f"no file {feature.path}"
    operations = "contexts/0/avail_operations"
    if operations in files:
        for feature in _by("ops"):
            reasons.pop(feature.name)
        _judge_ops({operations: client.read(f"{client.root}/kdamonds/0/{operations}")}, present, reasons)


def _list_files(tree: Tree, root: str, below: str) -> set[str]:
    """Return the files below a directory; of numbered directories only the first."""
    files: set[str] = set()
    try:
        entries = tree.list(f"{root}/{below}".rstrip("/"))
    except TreeError:
        return files
    for entry in entries:
        if not entry.is_dir:
            files.add(f"{below}{entry.path}")
        elif entry.path == "0" or not entry.path.isdecimal():
            files |= _list_files(tree, root, f"{below}{entry.path}/")
    return files


def _infer_companions(present: _Present, reasons: dict[str, str]) -> None:
    for feature in _by("companion"):
        present[feature.name] = present[feature.path]
        if not present[feature.path]:
            reasons[feature.name] = reasons.get(feature.path, f"comes with {feature.path}")


def _known(name: str) -> str:
    name = ALIASES.get(name, name)
    if name not in FEATURES:
        raise UsageError(f"{name!r} is no name of a feature; damon_tests.damon.features lists them")
    return name


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
