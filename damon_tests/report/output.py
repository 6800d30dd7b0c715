# SPDX-License-Identifier: GPL-2.0
"""What the terminal that reads us can show: its colours, its characters.

Text is written in Unicode. Where the output has another encoding, each character that it lacks is replaced by
one of ASCII that looks or means alike, so that tables and heat maps keep their shape.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import TextIO

_LOOKS_LIKE = str.maketrans(
    "│┌┐└┘├┤┬┴┼─·░▒▓█▁▂▃▄▅▆▇▾✓✗×µαθΣ–…±",
    "|+++++++++-.:*%#__..oo#v+xxuatS-.~",
)
_ERRORS = "damon-tests-ascii"


def colored(out: TextIO) -> bool:
    """Whether to write colours: to a terminal that has them, unless NO_COLOR is set (https://no-color.org)."""
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def never_fail() -> None:
    """Replace what standard output and standard error cannot encode instead of failing."""
    codecs.register_error(_ERRORS, _replaced)
    for out in (sys.stdout, sys.stderr):
        if isinstance(out, io.TextIOWrapper) and out.errors in ("strict", "surrogateescape"):
            out.reconfigure(errors=_ERRORS)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_LOOKS_LIKE)
    return "".join(c if c.isascii() else "?" for c in text), error.end
