# SPDX-License-Identifier: GPL-2.0
"""Make ``abi/LEVEL.json`` from dumps of real kernels: ``make_abi.py DUMP.txt...``

A dump has the tree of one kernel (one directory of each kind), what its files accepted and refused,
what state commands answered, its modules and its tracepoints. Live counters and times are left out.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path


def parse(text: str) -> dict[str, object]:
    """One dump as a dictionary."""
    golden: dict[str, object] = {"tree": [], "words": {}, "state": {}, "modules": {}, "tracepoints": {}}
    golden |= {"entries": [], "running": {}, "counts": {}}
    section = ""
    for line in text.splitlines():
        if line.startswith("# kernel "):
            golden["kernel"] = line.split()[2].rstrip(";")
        elif line.startswith("## words "):
            _words(golden, line)
        elif line.startswith("## state "):
            _state(golden, line)
        elif line.startswith("## other "):
            golden["entries"], section = ast.literal_eval(line.partition("entries ")[2]), ""
        elif line.startswith("## "):
            section = line[3:]
        elif line.startswith(("nr_kdamonds write while on", "nr_contexts=2 off")):
            _counts(golden, line)
        elif section.startswith("sysfs tree"):
            _tree(golden, line)
        elif section.startswith("while-on dump"):
            _running(golden, line)
        elif section.startswith("module "):
            _module(golden, line)
        elif section.startswith("tracepoint ") and line.startswith("print fmt: "):
            golden["tracepoints"][section.split()[1]] = re.match(r'print fmt: "([^"]*)"', line).group(1)
    return golden


def _tree(golden, line):
    path, mode, *value = line.split(" ", 2)
    entry = [path.rstrip("/"), mode]
    if not path.endswith("/"):
        entry.append("".join(value).replace("\\n", "\n"))
    golden["tree"].append(entry)


def _words(golden, line):
    name, accepted, rejected = re.match(r"## words (.*) ACCEPT (\[.*\]) REJECT (\{.*\})$", line).groups()
    accepted = [(*word.split("->"), word)[:2] for word in ast.literal_eval(accepted)]
    golden["words"][name] = {"accept": accepted, "reject": ast.literal_eval(rejected)}


def _state(golden, line):
    name, answers = re.match(r"## state (.*?) (\[.*\])$", line).groups()
    golden["state"][name] = [answer[:3] for answer in ast.literal_eval(answers)]


def _running(golden, line):
    """Paths and modes below ``stats`` and below one directory of ``tried_regions``; the numbers that
    those directories begin with, at most eight, in the order of their text."""
    running = golden["running"]
    if line.startswith("tried_regions entries "):
        names = ast.literal_eval(re.search(r"\[.*\]", line).group())
        running["first numbers"] = sorted(int(name) for name in names)
    elif line == "./ 755":
        running["regions" if "stats" in running else "stats"] = []
    else:
        path, mode, *_ = line.split()
        running["regions" if "regions" in running else "stats"].append([path.rstrip("/"), mode])


def _counts(golden, line):
    """What writes of counts answered: in all but the last, while the kdamond runs."""
    names = {
        "nr_kdamonds write while on": "nr_kdamonds 1, on",
        "nr_contexts": "nr_contexts 1, on",
        "nr_contexts=2": "nr_contexts 2, on",
        "nr_contexts=2 off": "nr_contexts 2, off",
        "=1": "nr_contexts 1, off",
    }
    for name, answer in re.findall(r"(\S[^:]*): (\w+)", line):
        golden["counts"][names[name]] = answer


def _module(golden, line):
    if match := re.match(r"(damon_\w+)\.(\w+) (\d+) ?(.*)$", line):
        module, name, mode, value = match.groups()
        golden["modules"].setdefault(module, {})[name] = [mode, value]


def main(paths: list[str]) -> None:
    target = Path(__file__).parent / "abi"
    for path in paths:
        golden = parse(Path(path).read_text())
        level = ".".join(golden["kernel"].split(".")[:2])
        (target / f"{level}.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
