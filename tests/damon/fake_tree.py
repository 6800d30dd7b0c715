# SPDX-License-Identifier: GPL-2.0
"""DAMON's sysfs files in memory, as the dumps under ``abi/`` list them: files and staging, no monitoring.

``on`` and ``off`` only flip ``state``. ``fail`` makes the next accesses of a file fail.
"""

from __future__ import annotations

import ast
import errno
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from damon_tests.damon.users import ADMIN
from damon_tests.ports import Entry, Pending, TreeError

ABI = Path(__file__).parent / "abi"
RELEASES = tuple(sorted((p.stem for p in ABI.glob("*.txt")), key=lambda s: [int(x) for x in s.split(".")]))
LEVELS = tuple(".".join(release.split(".")[:2]) for release in RELEASES)

_WORD_FILES = {
    "operations": r"/operations$",
    "action": r"/action$",
    "filters/0/type": r"/schemes/\d+/filters/\d+/type$",
    "core_filters/0/type": r"/core_filters/\d+/type$",
    "ops_filters/0/type": r"/ops_filters/\d+/type$",
    "probe filter type": r"/probes/\d+/filters/\d+/type$",
    "goal target_metric": r"/target_metric$",
    "watermarks/metric": r"/watermarks/metric$",
    "goal_tuner": r"/goal_tuner$",
}
_MANY = re.compile(
    r"/nr_(kdamonds|contexts|probes|filters|goals|dests|schemes|targets|regions)$|^kdamonds/nr_kdamonds$"
)


class FakeClock:
    """A clock that advances only in waits; ``hooks`` run after each step."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000
        self.hooks: list[Callable[[], None]] = []

    def now_ns(self) -> int:
        return self.ns

    def run_for(self, duration_ns: int) -> None:
        assert duration_ns > 0
        self.ns += duration_ns
        for hook in self.hooks:
            hook()

    def wait_until(self, condition: Callable[[], bool], deadline_ns: int, poll_ns: int = 10_000_000) -> bool:
        while not condition():
            if self.ns >= deadline_ns:
                return False
            self.run_for(poll_ns)
        return True


class FakeTree:
    """Implements ``ports.Tree``. ``files`` holds absolute path to text as written; ``log`` all writes."""

    def __init__(self, release: str) -> None:
        self._modes: dict[str, int] = {}
        self._defaults: dict[str, str] = {}
        self._words: dict[str, list[str]] = {}
        self.tracepoints: set[str] = set()
        self.files: dict[str, str] = {}
        self.modes: dict[str, int] = {}
        self.log: list[tuple[str, str]] = []
        self.reads: list[str] = []
        self.round_trips = 0
        self._failures: list[tuple[str, str, int]] = []
        self._load(release)
        self._put(f"{ADMIN}/kdamonds/nr_kdamonds", "0", 0o600)

    def _load(self, release: str) -> None:
        for line in (ABI / f"{release}.txt").read_text().splitlines():
            words = line.split(" ")
            if line.startswith("kdamonds/"):
                if not words[0].endswith("/"):
                    self._modes[words[0]] = int(words[1], 8)
                    self._defaults[words[0]] = " ".join(words[2:]).replace("\\n", "\n")
            elif line.startswith("## words"):
                name, accepted = line[len("## words ") :].split(" ACCEPT ")
                self._words[name] = [w for w in ast.literal_eval(accepted) if "->" not in w]
            elif line.startswith("## tracepoint"):
                self.tracepoints.add(words[2])
            elif line.startswith("damon_"):
                module, parameter = words[0].split(".")
                self._put(
                    f"/sys/module/{module}/parameters/{parameter}",
                    "N" if parameter == "enabled" else "0",
                    0o600,
                )

    def _put(self, path: str, text: str, mode: int) -> None:
        self.files[path] = text
        self.modes[path] = mode

    # --- control by tests ----------------------------------------------------------------------

    def fail(self, path_end: str, error: int, times: int = 1, value: str = "") -> None:
        """Make the next accesses of files with this path end (and this ``value``, if given) fail."""
        self._failures += [(path_end, value, error)] * times

    def add_file(self, path: str, text: str, mode: int = 0o400) -> None:
        self._put(path, text, mode)

    # --- ports.Tree ------------------------------------------------------------------------------

    def read(self, path: str) -> str:
        self.round_trips += 1
        return self._read(path)

    def _read(self, path: str) -> str:
        self.reads.append(path)
        self._maybe_fail("read", path, None)
        if path not in self.files:
            raise TreeError("read", path, errno.ENOENT)
        return self.files[path] + "\n"

    def write(self, path: str, value: str) -> None:
        self.round_trips += 1
        self._write(path, value)

    def begin_write(self, path: str, value: str) -> Pending:
        return _Done(self, path, value)

    def list(self, path: str) -> Sequence[Entry]:
        below = {p[len(path) + 1 :].split("/")[0] for p in self.files if p.startswith(path + "/")}
        if not below:
            raise TreeError("list", path, errno.ENOENT)
        return [Entry(n, 0o600, f"{path}/{n}" not in self.files) for n in sorted(below)]

    def exists(self, path: str) -> bool:
        return any(p == path or p.startswith(path + "/") for p in self.files)

    def read_batch(self, paths: Sequence[str]) -> Sequence[str | TreeError]:
        self.round_trips += 1
        answers: list[str | TreeError] = []
        for path in paths:
            try:
                answers.append(self._read(path))
            except TreeError as error:
                answers.append(error)
        return answers

    def write_batch(self, writes: Sequence[tuple[str, str]]) -> None:
        self.round_trips += 1
        for path, value in writes:
            self._write(path, value)

    def walk(self, path: str) -> Sequence[Entry]:
        self.round_trips += 1
        if not self.exists(path):
            raise TreeError("list", path, errno.ENOENT)
        entries = []
        for full in sorted(p for p in self.files if p.startswith(path + "/")):
            name = full[len(path) + 1 :]
            try:
                entries.append(Entry(name, self.modes[full], False, self._read(full)))
            except TreeError as error:
                entries.append(Entry(name, self.modes[full], False, None, error))
        return entries

    # --- inside ----------------------------------------------------------------------------------

    def _maybe_fail(self, operation: str, path: str, value: str | None) -> None:
        for i, (end, wanted, error) in enumerate(self._failures):
            if path.endswith(end) and (not wanted or wanted == value):
                del self._failures[i]
                raise TreeError(operation, path, error, value)

    def _write(self, path: str, value: str) -> None:
        self.log.append((path, value))
        self._maybe_fail("write", path, value)
        if path not in self.files:
            raise TreeError("write", path, errno.ENOENT, value)
        if self.modes[path] == 0o400:
            raise TreeError("write", path, errno.EACCES, value)
        if value == "":
            return
        relative = path.removeprefix(ADMIN + "/")
        if _MANY.search(relative):
            self._write_count(path, relative, value)
        elif relative.endswith("/state"):
            self._command(path, value)
        else:
            self.files[path] = self._canonical(path, relative, value)

    def _canonical(self, path: str, relative: str, value: str) -> str:
        if path.endswith("path"):
            return value
        word = value.removesuffix("\n")
        for name, pattern in _WORD_FILES.items():
            if re.search(pattern, relative):
                if word not in self._words[name]:
                    raise TreeError("write", path, errno.EINVAL, value)
                return word
        if self._defaults[_generic(relative)] in ("Y", "N"):
            if word[:1] not in tuple("YyTt1NnFf0"):
                raise TreeError("write", path, errno.EINVAL, value)
            return "Y" if word[0] in "YyTt1" else "N"
        try:
            number = int(word, 0)
        except ValueError:
            raise TreeError("write", path, errno.EINVAL, value) from None
        if number >= 1 << 64:
            raise TreeError("write", path, errno.ERANGE, value)
        return str(number)

    def _write_count(self, path: str, relative: str, value: str) -> None:
        if "on" in (self.files[p] for p in self.files if p.endswith("/state")) and relative.endswith(
            "nr_kdamonds"
        ):
            raise TreeError("write", path, errno.EBUSY, value)
        number = int(value)
        limit = {"nr_contexts": 1, "nr_probes": 4}.get(path.rsplit("/", 1)[1], 1 << 16)
        if not 0 <= number <= limit:
            raise TreeError("write", path, errno.EINVAL, value)
        directory, relative_dir = path.rsplit("/", 1)[0], relative.rsplit("/", 1)[0]
        for old in [p for p in self.files if re.match(re.escape(directory) + r"/\d+/", p)]:
            del self.files[old]
        template = _generic(relative_dir + "/0/")
        for i in range(number):
            for name, default in self._defaults.items():
                rest = name.removeprefix(template)
                if name.startswith(template) and not re.search(r"(^|/)\d+/", rest):
                    self._put(f"{directory}/{i}/{rest}", _empty(rest, default), self._modes[name])
        self.files[path] = str(number)

    def _command(self, path: str, value: str) -> None:
        word, state = value.removesuffix("\n"), self.files[path]
        kdamond = path.rsplit("/", 1)[0]
        if word not in ("on", "off") and state == "off":
            raise TreeError("write", path, errno.EINVAL, value)
        if word == "on":
            if state == "on":
                raise TreeError("write", path, errno.EBUSY, value)
            self.files[path], self.files[f"{kdamond}/pid"] = "on", "4242"
        if word == "off":
            if state == "off":
                raise TreeError("write", path, errno.EPERM, value)
            self.files[path], self.files[f"{kdamond}/pid"] = "off", "-1"


def _empty(name: str, default: str) -> str:
    """Return "0" for counts, which are 1 in the dumps so that all directories exist, else the default."""
    return (
        "0"
        if name.rsplit("/", 1)[-1].startswith("nr_")
        and "/stats/" not in f"/{name}"
        and not re.search(r"(tried|applied|snapshots)$", name)
        else default
    )


def _generic(relative: str) -> str:
    return re.sub(r"(?<=/)\d+(?=/|$)", "0", relative)


class _Done:
    def __init__(self, tree: FakeTree, path: str, value: str) -> None:
        self._tree, self._path, self._value = tree, path, value

    def done(self) -> bool:
        return True

    def result(self, timeout_ns: int) -> None:
        self._tree.write(self._path, self._value)
