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
    section = ""
    for line in text.splitlines():
        if line.startswith("# kernel "):
            golden["kernel"] = line.split()[2].rstrip(";")
        elif line.startswith("## words "):
            _words(golden, line)
        elif line.startswith("## state "):
            _state(golden, line)
        elif line.startswith("## "):
            section = line[3:]
        elif section.startswith("sysfs tree"):
            _tree(golden, line)
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
