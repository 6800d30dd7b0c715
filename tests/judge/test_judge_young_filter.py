# SPDX-License-Identifier: GPL-2.0
"""How many bytes are young between two reads of accessed bits."""

import numpy as np

from damon_tests.damon.trace import BeforeApplyEvent
from damon_tests.judge.schemes.young_filter import SLACK_NS, Asked, questions, young_bytes

PAGE = 4096
SEC = 1_000_000_000


def event(time_ns, scheme_idx, start=0, end=4 * PAGE):
    return BeforeApplyEvent(time_ns, 0, scheme_idx, 0, 1, start, end, 0, 0)


class Touches:
    """A truth: page numbers touched at times."""

    def __init__(self, *touches):
        self.touches = touches

    def touched(self, pages, t0_ns, t1_ns):
        touched_pages = {page for page, time in self.touches if t0_ns <= time < t1_ns}
        return np.array([page in touched_pages for page in pages.tolist()])


def test_each_read_pairs_with_watcher_and_previous_read():
    events = [
        event(1, 0),
        event(2, 1),
        event(9, 0, PAGE, 2 * PAGE),
        event(10, 1),
        event(11, 0),
        event(13, 1),
        event(14, 0),
    ]
    asked = questions(events, 0, 1, 10)
    assert asked == [
        Asked(0, 4 * PAGE, 1, 2, None, None),
        Asked(PAGE, 2 * PAGE, 9, 10, None, None),
        Asked(0, 4 * PAGE, 11, 13, 1, 2),
    ]
    assert questions(events, 0, 1, 1) == asked[:1]


def test_pages_are_young_at_first_and_when_touched_since():
    first = Asked(0, 4 * PAGE, SEC, SEC, None, None)
    later = Asked(0, 4 * PAGE, 2 * SEC, 2 * SEC + 10, SEC, SEC + 10)
    truth = Touches(
        (0, SEC + SEC // 3), (0, SEC + 2 * SEC // 3), (1, SEC + 5), (2, 3 * SEC), (3, SEC + SEC // 3)
    )
    assert young_bytes([first], truth, 1) == (3 * PAGE, 4 * PAGE)
    # Page 0 surely; page 1 perhaps, touched about when it was cleared, and page 3, touched once; page 2 not.
    assert young_bytes([later], truth, 0) == (PAGE, 3 * PAGE)


def test_pages_touched_since_last_sample_are_certainly_young():
    tenth = SEC // 10
    truth = Touches((0, SEC), (0, 16 * tenth), (0, 19 * tenth), (1, SEC), (1, 14 * tenth))
    later = Asked(0, 2 * PAGE, 2 * SEC, 2 * SEC, SEC // 2, SEC // 2)
    assert young_bytes([later], truth, 0) == (2 * PAGE, 2 * PAGE)
    assert young_bytes([later], truth, 9, SEC // 2) == (PAGE, 2 * PAGE)
    first = Asked(0, 2 * PAGE, 2 * SEC, 2 * SEC, None, None)
    assert young_bytes([first], truth, 9, SEC // 2) == (PAGE, 2 * PAGE)


def test_times_shorter_than_slack_make_no_page_certainly_young():
    short = Asked(0, 4 * PAGE, SEC + SLACK_NS, SEC + SLACK_NS, SEC, SEC)
    assert young_bytes([short], Touches((0, SEC + 10)), 0) == (0, PAGE)
