# SPDX-License-Identifier: GPL-2.0
"""Print which tests use what of DAMON's ABI, and see its effect: ``abi_coverage.py [WORD…]``

Files, words, commands, tracepoints and parameters with one of the words in their name (default: all), each
with its tests, or with the reason why it has none. ``test_abi_coverage.py`` fails for one that has neither.
"""

from __future__ import annotations

import sys

from test_abi_coverage import NOWHERE, coverage


def main() -> None:
    words = sys.argv[1:]
    for name, tests in coverage().items():
        if words and not any(word in name for word in words):
            continue
        print(f"{name}: {len(tests) or NOWHERE.get(name, 'no test')}")
        for test in tests:
            print(f"    {test}")


if __name__ == "__main__":
    main()
