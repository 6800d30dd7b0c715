# SPDX-License-Identifier: GPL-2.0
"""Commands and refusals: every answer is the one that the level documents or intends.

The same steps run on the DAMON under test and on a clean reference of its level (§5.3, §5.4); their answers
are compared. A write of which only a part is taken answers EIO (I67). Each step waits for its answer, so that
time plays no part.
"""

from contextlib import suppress
from dataclasses import replace

import pytest

from damon_tests.damon.client import DamonClient
from damon_tests.damon.layout import Write
from damon_tests.damon.params import (
    ANY,
    U32_MAX,
    U64_MAX,
    DamonAttrs,
    DamonCtx,
    DamonIntervalsGoal,
    DamonTarget,
    Damos,
    DamosFilter,
    Kdamond,
)
from damon_tests.patterns import load
from damon_tests.ports import (
    NSEC_PER_MSEC,
    NSEC_PER_SEC,
    DamonTestsError,
    NotSupported,
    TimedOut,
    TreeError,
    page_size,
)
from damon_tests.reference.sysfs.system import ReferenceSystem
from damon_tests.workload.layout import plan_layout, process_vmas
from damon_tests.workload.pattern_truth import PatternTruth

COMMANDS = (
    "update_schemes_stats",
    "commit",
    "commit_schemes_quota_goals",
    "clear_schemes_tried_regions",
    "update_schemes_tried_regions",
    "update_schemes_tried_bytes",
    "update_schemes_effective_quotas",
    "update_tuned_intervals",
    "bogus",
    " on",
)
SCHEME = Damos("stat", ANY)
FAST = DamonAttrs(min_nr_regions=10, max_nr_regions=50)


PATIENCE_NS = 15 * NSEC_PER_SEC
"""Commands answer within an aggregation; one that gets EBUSY for longer will get it for ever."""


class Answers:
    """What a DAMON answered to the steps done to it."""

    def __init__(self, client, pid, ranges, ram):
        self.client, self.pid, self.ranges, self.ram = client, pid, ranges, ram
        self.given = []
        self.expected = []

    def stage(self, ctx):
        """Stage a request anew; return "no file" or the errno's name
        where the kernel does not take it, else "0"."""
        try:
            self.client.stage([Kdamond(ctx)])
        except (NotSupported, TreeError) as error:
            self.client.stage([Kdamond(replace(ctx, schemes=(), attrs=FAST, addr_unit=1))])
            return getattr(error, "errno_name", "no file")
        return "0"

    def command(self, word):
        try:
            self.client.command(0, word, timeout_ns=PATIENCE_NS)
        except TreeError as error:
            return error.errno_name
        except TimedOut:
            return "no answer"
        return "0"

    def write(self, path, value):
        try:
            self.client.write_all([Write(path, value)])
        except (NotSupported, TreeError) as error:
            return getattr(error, "errno_name", "no file")
        return "0"

    def read(self, path):
        try:
            return self.client.read(f"{self.client.root}/{path}")
        except TreeError as error:
            return error.errno_name

    def settled(self):
        """Return the state once it no longer changes by itself: a kdamond without targets ends soon.

        How soon depends on the machine, so wait for the expected state (the clean reference's); a state that
        is expected from the start must stay.
        """
        clock = self.client.clock
        clock.run_for(150 * NSEC_PER_MSEC)
        if len(self.given) < len(self.expected):
            wanted = self.expected[len(self.given)][1]
            clock.wait_until(lambda: self._state() == wanted, clock.now_ns() + PATIENCE_NS)
        return self._state()

    def _state(self):
        return self.client.state(0), self.client.pid(0) > 0

    def note(self, what, answer):
        self.given.append((what, answer))


@pytest.fixture
def both(subject):
    """(under test, clean reference): each with a target of its own that idles."""
    pattern = load.load("idle")
    target = subject.start_target(pattern, 1)
    system = ReferenceSystem(level=subject.level)
    layout = plan_layout(pattern)
    pid = system.add_process(
        process_vmas(pattern, layout), PatternTruth(pattern, layout, 1, go_ns=system.clock.now_ns())
    )
    client, model = DamonClient(subject.tree, subject.clock), DamonClient(system.tree, system.clock)
    try:
        yield (
            Answers(client, target.pid, tuple(sorted(target.layout.values())), subject.ram_ranges()),
            Answers(model, pid, tuple(sorted(layout.values())), system.ram_ranges()),
        )
    finally:
        _clean_up(client)
        target.stop()


def _clean_up(client):
    with suppress(DamonTestsError):  # it may be off
        client.command(0, "off")
    client.clear()


def compare(both, steps, expect, level):
    """Do the steps on both; report every answer that differs as a violation."""
    tested, clean = both
    steps(clean)
    tested.expected = clean.given
    steps(tested)
    wrong = [
        f"{what}: {got} instead of {wanted}"
        for (what, got), (_, wanted) in zip(tested.given, clean.given, strict=True)
        if got != wanted
    ]
    expect.nothing(
        "steps answered differently", wrong, because=f"the documented answers of {level} (§5.3, §5.4)"
    )


def test_commands_answer_as_documented_in_every_state(both, expect, subject):
    """Before the first start, while running and after off, every command answers as documented."""

    def steps(it):
        it.stage(DamonCtx("fvaddr", attrs=FAST, targets=(DamonTarget(it.pid, it.ranges),), schemes=(SCHEME,)))
        for word in (*COMMANDS, "off"):
            it.note(f"{word}, never started", it.command(word))
        it.note("on", it.command("on"))
        it.note("state", it.settled())
        for word in (*COMMANDS, "on"):
            it.note(f"{word}, running", it.command(word))
        it.note("state", it.settled())
        it.note("nr_kdamonds while running", it.write("kdamonds/nr_kdamonds", "2"))
        it.note("off", it.command("off"))
        it.note("state", it.settled())
        once = [word for word in COMMANDS if word != "update_schemes_tried_bytes"]  # see the next test
        for word in (*once, "off", "on", "off\n", "off\n\n"):
            it.note(f"{word!r}, turned off", it.command(word))
        it.note("state", it.settled())

    compare(both, steps, expect, subject.level)


@pytest.mark.known_defect("stale-request-of-stopped-kdamond")
def test_stopped_kdamond_refuses_tried_regions(both, expect, subject):
    """A stopped kdamond refuses update_schemes_tried_regions every
    time alike, and works after the next on."""

    def steps(it):
        it.stage(DamonCtx("fvaddr", attrs=FAST, targets=(DamonTarget(it.pid, it.ranges),), schemes=(SCHEME,)))
        it.note("on", it.command("on"))
        it.note("off", it.command("off"))
        for number in range(3):
            it.note(f"tried regions, {number}", it.command("update_schemes_tried_regions"))
        it.note("tried bytes", it.command("update_schemes_tried_bytes"))
        it.note("on again", it.command("on"))
        it.note("tried regions, running", it.command("update_schemes_tried_regions"))

    compare(both, steps, expect, subject.level)


def test_commands_exclude_each_other(both, expect, subject):
    """While one command waits for the kdamond, others are refused with EBUSY."""

    def steps(it):
        slow = replace(SCHEME, apply_interval_us=10_000_000)
        it.stage(DamonCtx("fvaddr", attrs=FAST, targets=(DamonTarget(it.pid, it.ranges),), schemes=(slow,)))
        it.note("on", it.command("on"))
        it.client.clock.run_for(300 * NSEC_PER_MSEC)
        waiting = it.client.begin_command(0, "update_schemes_tried_regions")
        # Nothing shows when it has begun to wait, and a command that comes too early would prevent that.
        it.client.clock.run_for(NSEC_PER_SEC)
        for path, value in {"0/state": "update_schemes_stats", "nr_kdamonds": "2"}.items():
            it.note(f"{path} := {value} meanwhile", _answer(it, path, value))
        waiting.result(60 * NSEC_PER_SEC)
        it.note("off", it.command("off"))

    compare(both, steps, expect, subject.level)


def _answer(it, path, value):
    try:
        it.client.tree.write(f"{it.client.root}/kdamonds/{path}", value)
    except TreeError as error:
        return error.errno_name
    return "0"


def test_commands_without_schemes_return_at_once(both, expect, subject):
    """Without schemes, commands about schemes return at once."""

    def steps(it):
        it.stage(DamonCtx("fvaddr", attrs=FAST, targets=(DamonTarget(it.pid, it.ranges),)))
        it.note("on", it.command("on"))
        for word in COMMANDS:
            it.note(word, it.command(word))
        it.note("off", it.command("off"))

    compare(both, steps, expect, subject.level)


def test_commands_work_after_scheme_directories_are_removed(both, expect, subject):
    """Commands about schemes whose directories were removed while
    they run are answered as documented (§8.3, 5)."""

    def steps(it):
        filtered = replace(SCHEME, filters=(DamosFilter("anon"),))
        ctx = DamonCtx("fvaddr", attrs=FAST, targets=(DamonTarget(it.pid, it.ranges),))
        it.stage(replace(ctx, schemes=(SCHEME, filtered)))
        it.note("on", it.command("on"))
        it.note("tried regions", it.command("update_schemes_tried_regions"))
        for left in (1, 0):
            it.note(f"{left} left", it.write("kdamonds/0/contexts/0/schemes/nr_schemes", str(left)))
            for word in (*COMMANDS, "on"):
                it.note(f"{word}, {left} left", it.command(word))
        it.note("state", it.settled())
        it.note("off", it.command("off"))

    compare(both, steps, expect, subject.level)


NUMBERS = ("-1", "9" * 20, "0x10", "010", " 7", "7 ", "7\n", "7x", "+7", str(U64_MAX), str(U32_MAX), "5000")
BOOLEANS = ("Y", "n", "1", "0", "on", "off", "yes", "No", "2", "true", "x")

GOAL = DamonIntervalsGoal(access_bp=400, aggrs=1, min_sample_us=5_000, max_sample_us=50_000)

ATTRIBUTES = {
    "min regions 2": replace(FAST, min_nr_regions=2),
    "min regions 3": replace(FAST, min_nr_regions=3),
    "min above max": replace(FAST, min_nr_regions=51),
    "min equal to max": replace(FAST, min_nr_regions=50),
    "sample above aggr": replace(FAST, sample_us=100_001),
    "sample equal to aggr": replace(FAST, sample_us=100_000),
    "goal": replace(FAST, intervals_goal=GOAL),
    "goal, min above max": replace(FAST, intervals_goal=replace(GOAL, max_sample_us=4_000)),
    "goal, sample below min": replace(FAST, intervals_goal=replace(GOAL, min_sample_us=6_000)),
    "goal, sample above max": replace(FAST, sample_us=60_000, intervals_goal=GOAL),
}


def test_attributes_outside_their_limits_are_refused(both, expect, subject):
    """on refuses attributes beyond their limits, and takes those at the limit."""

    def steps(it):
        for name, attrs in ATTRIBUTES.items():
            staged = it.stage(DamonCtx("fvaddr", attrs=attrs, targets=(DamonTarget(it.pid, it.ranges),)))
            it.note(f"stage {name}", staged)
            it.note(f"on, {name}", it.command("on"))
            it.note(f"state, {name}", it.settled())
            it.command("off")

    compare(both, steps, expect, subject.level)


def test_invalid_targets_are_refused(both, expect, subject):
    """on refuses processes that do not exist and ranges that are backward, overlapping or descending."""
    page = page_size()

    def steps(it):
        targets = {
            "pid 0": DamonTarget(0),
            "pid -5": DamonTarget(-5),
            "unknown pid": DamonTarget(2**22 - 3),
            "no range": DamonTarget(it.pid),
            "range": DamonTarget(it.pid, it.ranges),
            "unaligned empty range": DamonTarget(it.pid, ((5, 5),)),
            "backward range": DamonTarget(it.pid, ((8 * page, 4 * page),)),
            "slightly backward range": DamonTarget(it.pid, ((page - 1, 1),)),
            "overlapping ranges": DamonTarget(it.pid, ((0, 2 * page), (page, 3 * page))),
            "touching ranges": DamonTarget(it.pid, ((0, 2 * page), (2 * page, 3 * page))),
            "descending ranges": DamonTarget(it.pid, ((8 * page, 9 * page), (0, page))),
        }
        for operations in ("vaddr", "fvaddr"):
            for name, target in targets.items():
                it.stage(DamonCtx(operations, attrs=FAST, targets=(target,)))
                it.note(f"{operations}, {name}", it.command("on"))
                it.note(f"state, {operations}, {name}", it.settled())
                it.command("off")
            it.stage(DamonCtx(operations, attrs=FAST))
            it.note(f"{operations}, no target", it.command("on"))
            it.note(f"state, {operations}, no target", it.settled())
            it.command("off")

    compare(both, steps, expect, subject.level)


@pytest.mark.known_defect("empty-range-accepted")
def test_an_empty_range_is_refused(both, expect, subject):
    """on refuses a range without memory, and takes one with memory afterwards."""

    def steps(it):
        it.stage(
            DamonCtx(
                "fvaddr", attrs=FAST, targets=(DamonTarget(it.pid, ((8 * page_size(), 8 * page_size()),)),)
            )
        )
        it.note("on", it.command("on"))
        it.note("state", it.settled())
        it.command("off")
        it.stage(DamonCtx("fvaddr", attrs=FAST, targets=(DamonTarget(it.pid, it.ranges),)))
        for word in ("on", "off", "off"):
            it.note(f"{word}, with memory", it.command(word))

    compare(both, steps, expect, subject.level)


@pytest.mark.needs("ops.paddr")
def test_invalid_paddr_targets_are_refused(both, expect, subject):
    """on refuses more than one target of paddr, and since 7.0 address units that are no power of two."""

    def steps(it):
        ram = DamonTarget(regions=tuple(it.ram[:1]))
        for name, targets in {
            "one": (ram,),
            "none": (),
            "two": (ram, ram),
            "no range": (DamonTarget(),),
        }.items():
            it.stage(DamonCtx("paddr", attrs=FAST, targets=targets))
            it.note(f"{name}", it.command("on"))
            it.note(f"state, {name}", it.settled())
            it.command("off")
        for unit in (2, 3, page_size(), 5000):
            ctx = DamonCtx(
                "paddr", addr_unit=unit, attrs=FAST, targets=(DamonTarget(regions=((1 << 20, 1 << 21),)),)
            )
            it.note(f"stage unit {unit}", it.stage(ctx))
            it.note(f"on, unit {unit}", it.command("on"))
            it.command("off")

    compare(both, steps, expect, subject.level)


def test_invalid_schemes_are_refused(both, expect, subject):
    """on refuses schemes with invalid filters (with ENOMEM: §8.4, Q7)."""
    schemes = {
        "stat": SCHEME,
        "addr filter": replace(
            SCHEME, filters=(DamosFilter("addr", addr_start=page_size(), addr_end=2 * page_size()),)
        ),
        "backward addr filter": replace(
            SCHEME, filters=(DamosFilter("addr", addr_start=2 * page_size(), addr_end=page_size()),)
        ),
        "memcg filter without path": replace(SCHEME, filters=(DamosFilter("memcg"),)),
        "memcg filter, unknown path": replace(SCHEME, filters=(DamosFilter("memcg", memcg_path="/no/such"),)),
        "min above max pattern": replace(SCHEME, access_pattern=replace(ANY, sz_min=2, sz_max=1)),
        "no apply interval": replace(SCHEME, apply_interval_us=1),
    }

    def steps(it):
        for name, scheme in schemes.items():
            ctx = DamonCtx("fvaddr", attrs=FAST, targets=(DamonTarget(it.pid, it.ranges),), schemes=(scheme,))
            it.note(f"stage {name}", it.stage(ctx))
            it.note(f"on, {name}", it.command("on"))
            it.note(f"state, {name}", it.settled())
            it.command("off")

    compare(both, steps, expect, subject.level)


@pytest.mark.needs("targets.obsolete_target")
def test_obsolete_target_cannot_be_started(both, expect, subject):
    """on refuses a target that is obsolete before anything runs (since 7.3)."""

    def steps(it):
        target = DamonTarget(it.pid, it.ranges, obsolete_target=True)
        it.stage(DamonCtx("fvaddr", attrs=FAST, targets=(target,)))
        it.note("on", it.command("on"))

    compare(both, steps, expect, subject.level)


def test_refused_values_leave_files_unchanged(both, expect, subject):
    """Files keep what they had when a number, boolean or word is refused (I65), and show others (I64)."""

    def steps(it):
        it.stage(DamonCtx(targets=(DamonTarget(),), schemes=(replace(SCHEME, filters=(DamosFilter(),)),)))
        for path, values in {
            "kdamonds/0/contexts/nr_contexts": ("2", "-1", "0x1", "1"),
            "kdamonds/0/contexts/0/targets/nr_targets": ("-1", "abc", "3"),
            "kdamonds/0/contexts/0/schemes/nr_schemes": ("-1", "2"),
            "kdamonds/0/contexts/0/monitoring_attrs/intervals/sample_us": NUMBERS,
            "kdamonds/0/contexts/0/monitoring_attrs/nr_regions/max": NUMBERS,
            "kdamonds/0/contexts/0/pause": BOOLEANS,
            "kdamonds/0/contexts/0/schemes/0/filters/0/matching": BOOLEANS,
            "kdamonds/0/contexts/0/targets/0/pid_target": ("99999999999", "x", "-5"),
            "kdamonds/0/contexts/0/operations": (
                "foo",
                "paddr",
                "vaddr\n",
                "PADDR",
                "paddrs",
                "pad",
                " vaddr",
            ),
        }.items():
            for value in values:
                it.note(f"{path} := {value!r}", it.write(path, value))
                it.note(f"{path} after {value!r}", it.read(path))

    compare(both, steps, expect, subject.level)
