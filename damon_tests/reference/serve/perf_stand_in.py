# SPDX-License-Identifier: GPL-2.0
"""``perf`` for what ``serve --exec`` runs: DAMON's tracepoints are the reference's, all else is perf's.

The machine's perf would trace the kernel's own DAMON, or nothing. This understands what damo needs: ``perf
record -e damon:EVENT… -o FILE`` until SIGINT or SIGTERM, and ``perf script -i FILE``. It runs without this
package.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence

EVENTS = "/sys/kernel/mm/damon/.damon-tests-events"
AVAILABLE = "/sys/kernel/tracing/available_events"
MAGIC = "# damon-tests serve: what perf script prints\n"
POLL_S = 0.1


def values(arguments: Sequence[str], short: str, long: str) -> list[str]:
    """Return all values of an option, as ``-o FILE``, ``-oFILE``, ``--output FILE`` or ``--output=FILE``."""
    words = []
    for word, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        if word == "--":
            break
        if word in (short, long):
            words.append(following)
        elif word.startswith(long + "="):
            words.append(word[len(long) + 1 :])
        elif word.startswith(short) and not word.startswith("--"):
            words.append(word[len(short) :])
    return words


def is_ours(path: str) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def record(events: set[str], output: str) -> int:
    """Write the lines of these events until a signal comes."""
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: asked.append(number))
    with open(EVENTS, encoding="utf-8") as source, open(output, "w", encoding="utf-8") as target:
        target.write(MAGIC)
        unfinished, last = "", False
        while not last:
            last = bool(asked)  # what happened until then is still read
            *lines, unfinished = (unfinished + source.read()).split("\n")
            target.writelines(line + "\n" for line in lines if line.split(": ")[1] in events)
            target.flush()
            if not last:
                time.sleep(POLL_S)
    return 0


def script(path: str) -> int:
    with open(path, encoding="utf-8") as file:
        sys.stdout.write(file.read().removeprefix(MAGIC))
    return 0


def the_machines(arguments: Sequence[str]) -> int:
    """Exec the machine's perf."""
    here = os.environ.get("DAMON_TESTS_STAND_INS", "")
    path = os.pathsep.join(p for p in os.environ.get("PATH", os.defpath).split(os.pathsep) if p != here)
    program = shutil.which("perf", path=path)
    if program is not None:
        os.execv(program, ["perf", *arguments])
    print("perf (of damon-tests serve): for all but DAMON's events perf must be installed", file=sys.stderr)
    return 127


def refusal(command: str, events: set[str]) -> str:
    """Return why this cannot be done here; empty when it can."""
    with open(AVAILABLE, encoding="utf-8") as file:
        strange = sorted(events - set(file.read().split()))
    if strange:
        return f"{', '.join(strange)} cannot be traced beside the reference's own events: see {AVAILABLE}"
    if command != "record":
        return f"damon-tests serve knows perf record and perf script of DAMON's events, not perf {command}"
    return ""


def main(arguments: Sequence[str]) -> int:
    events = {name for value in values(arguments, "-e", "--event") for name in value.split(",")}
    command = arguments[0] if arguments else ""
    inputs = values(arguments, "-i", "--input") or ["perf.data"]
    try:
        if command == "script" and is_ours(inputs[-1]):
            return script(inputs[-1])
        if not any(name.startswith("damon") for name in events):
            return the_machines(arguments)
        why_not = refusal(command, events)
        if not why_not:
            return record(events, (values(arguments, "-o", "--output") or ["perf.data"])[-1])
    except OSError as error:
        why_not = str(error)
    print(f"perf (of damon-tests serve): {why_not}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
