# SPDX-License-Identifier: GPL-2.0
"""Messages about downloads and boots reach whoever shows them."""

from __future__ import annotations

import logging

from damon_tests.ports.narration import narrated


def test_messages_are_said_in_the_block_and_not_after_it() -> None:
    said: list[str] = []
    log = logging.getLogger("damon_tests.kernel.images.packages")
    with narrated(said.append):
        log.info("downloading %s (%.1f MB)", "linux-image", 87.0)
        log.warning("damaged")
        log.debug("nobody wants to know")
    log.warning("too late")
    assert said == ["downloading linux-image (87.0 MB)", "damaged"]
