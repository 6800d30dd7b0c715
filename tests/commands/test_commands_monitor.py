# SPDX-License-Identifier: GPL-2.0
"""``damon-tests monitor TARGET``: what is shown, the keys, and options that do not go together."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace

import pytest
from rich.console import Console
from synthetic_recordings import MIB, MS, recording, snapshot

from damon_tests import cli
from damon_tests.commands import live_view
from damon_tests.commands.live_view import View
from damon_tests.damon.records import Recording

ROWS = [(0, 2 * MIB, 20, 7), (2 * MIB, 8 * MIB, 0, 0)]


def grown(seconds: int) -> Recording:
    return recording([snapshot(i * 100 * MS, ROWS) for i in range(1, seconds * 10 + 1)])


@dataclass
class Watched:
    """A DAMON that has reported for ten seconds more each time, until 40 s."""

    head: str = "hot_cold, watched by DAMON of nobody"
    seconds: int = 0
    asked: list[int] = field(default_factory=list)

    @property
    def running(self) -> bool:
        return self.seconds < 40

    def go_on(self) -> None:
        self.seconds += 10

    def recording(self) -> Recording:
        return grown(self.seconds)

    def cost(self) -> str:
        return "kdamond 0.25% of a CPU"


def test_terminal_shows_rows_bytes_regions_and_cost() -> None:
    out = io.StringIO()
    live_view.show(Watched(), None, Console(file=out, force_terminal=True, width=100, height=60))
    shown = out.getvalue()
    for words in (
        "hot_cold, watched by DAMON of nobody",
        "hot 2 MiB, cold 6 MiB, 2 regions, kdamond 0.25% of a CPU",
        "100% of samples  age 7",
        "accessed",
        live_view.HELP,
    ):
        assert words in shown


def test_without_a_terminal_the_last_picture_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    live_view.show(Watched(), None, Console(file=io.StringIO(), width=100))
    out = capsys.readouterr().out
    assert "40.0 s  hot 2 MiB, cold 6 MiB" in out
    assert "\x1b" not in out


def test_figures_are_not_cut_at_the_edge_of_the_terminal() -> None:
    lines = live_view.frame(Watched(seconds=10), View(), 48).splitlines()
    assert max(map(len, lines[:3])) <= 48
    assert " ".join(line.strip() for line in lines[1:3]).endswith("2 regions, kdamond 0.25% of a CPU")


def test_frame_fits_a_low_terminal() -> None:
    watched = Watched(seconds=10)
    assert len(live_view.frame(watched, View(), 80, 24).splitlines()) <= 23
    assert "no aggregation" in live_view.frame(Watched(), View(), 80, 24)


def test_keys_zoom_into_the_last_seconds() -> None:
    view = View()
    assert len(view.of(grown(40)).snapshots) == 200
    view.take("+")
    assert len(view.of(grown(40)).snapshots) == 100
    view.take("-")
    view.take("-")
    assert len(view.of(grown(50)).snapshots) == 400
    view.take("z")
    assert len(view.of(grown(50)).snapshots) == 500
    for _ in range(20):
        view.take("+")
    assert len(view.of(grown(40)).snapshots) == 25


def test_keys_pause_and_end() -> None:
    view = View()
    view.take(" ")
    assert view.paused
    assert "paused" in live_view.frame(Watched(seconds=10), view, 100)
    view.take(" ")
    view.take("q")
    assert (view.paused, view.ended) == (False, True)
    view.take("")
    assert view.ended


def test_next_target_follows_the_last() -> None:
    one = grown(2)
    both = [
        s
        for pair in zip(one.snapshots, (replace(s, target_idx=1) for s in one.snapshots), strict=True)
        for s in pair
    ]
    whole = replace(one, snapshots=tuple(both))
    view = View()
    assert len(view.of(whole).snapshots) == 20
    view.take("t")
    shown = view.of(whole)
    assert len(shown.snapshots) == 20
    assert {s.target_idx for s in shown.snapshots} == {0}  # what is drawn has one target
    watched = Watched(seconds=2)
    watched.recording = lambda: whole  # type: ignore[method-assign]
    assert "target 1 of 2" in live_view.frame(watched, view, 100)
    view.take("t")
    assert "target 0 of 2" in live_view.frame(watched, view, 100)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing is named"),
        (["hot_cold", "--play", "x"], "TARGET and --play exclude each other"),
        (["hot_cold", "--reference", "x"], "TARGET and --reference exclude each other"),
        (["--reference", "hot_cold", "--kernel", "host"], "the reference watches, not host"),
        (["hot_cold", "--kernel", "host", "--level", "7.3"], "--level is of the reference"),
        (
            ["hot_cold", "--kernel", "debian:7.3", "--operations", "writes"],
            "--operations is of the reference",
        ),
        (["12", "--kernel", "debian:7.3"], "process 12 does not run there"),
        (["999999999", "--kernel", "host"], "no process has pid 999999999"),
        (["hot_cold", "--kernel", ""], "--kernel needs a kernel"),
        (["hot_cold", "--kernel", "reference:9.9"], "unknown level"),
        (["hot_cold", "--kernel", "reference+age_never_reset"], "a wrong DAMON watches no real process"),
        (["hot_cold", "--kernel", "/nowhere/bzImage"], "/nowhere/bzImage"),
        (["nothing_like_it", "--kernel", "debian:7.3"], "nothing_like_it"),
        (["hot_cold", "--kernel", "debian:7.3", "--record", "no/such/file"], "no/such/file"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["monitor", *arguments]) == 2
    assert words in capsys.readouterr().err
