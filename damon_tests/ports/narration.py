# SPDX-License-Identifier: GPL-2.0
"""Log messages of the package, handed to whoever shows them: downloads, unpacking, boots take minutes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOGGER = "damon_tests"


def on_stderr(text: str) -> None:
    """Print a message to standard error."""
    print(f"damon-tests: {text}", file=sys.stderr, flush=True)


@contextmanager
def narrated(say: Callable[[str], None]) -> Iterator[None]:
    """Call ``say`` with each message of the package, information included, until the block ends."""

    class _Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(record.getMessage())

    logger, handler = logging.getLogger(_LOGGER), _Handler(logging.INFO)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
