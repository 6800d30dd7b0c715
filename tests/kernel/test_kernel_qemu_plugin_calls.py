# SPDX-License-Identifier: GPL-2.0
"""The plugin's shadow stacks (workloads/src/qemu_plugin_calls.c): blocks of code become a tree of calls."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from damon_tests.kernel.guest.symbols import Kind

SOURCE = Path(__file__).parents[2] / "workloads" / "src" / "qemu_plugin_calls.c"

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (apt-get install gcc)")

NAMES = ("[user]", "[unknown]", "kdamond", "check", "walk", "thunk", "timer", "stub", "switch")
KINDS = {"thunk": Kind.THUNK, "timer": Kind.INTERRUPT, "stub": Kind.VECTOR_STUB, "switch": Kind.SWITCH}
SIZE = 0x1000
"""Size of every function in this test: function ``i`` of NAMES is at ``i * SIZE``."""


class Block(ctypes.Structure):
    """struct block of qemu_plugin.h."""

    _fields_ = (
        ("addr", ctypes.c_uint64),
        ("next", ctypes.c_uint64),
        ("nr_insns", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("kind", ctypes.c_uint8),
        ("kernel", ctypes.c_bool),
        ("entry", ctypes.c_bool),
        ("calls", ctypes.c_bool),
        ("returns", ctypes.c_bool),
        ("irets", ctypes.c_bool),
    )


class Node(ctypes.Structure):
    """struct node of qemu_plugin.h."""

    _fields_ = (
        ("parent", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("child", ctypes.c_uint32),
        ("sibling", ctypes.c_uint32),
        ("nr_calls", ctypes.c_uint64),
        ("nr_insns", ctypes.c_uint64),
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    path = tmp_path_factory.mktemp("calls") / "calls.so"
    command = [
        "cc",
        "-std=gnu11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-shared",
        "-fPIC",
        str(SOURCE),
        "-o",
        str(path),
    ]
    subprocess.run(command, check=True)
    loaded = ctypes.CDLL(str(path))
    loaded.calls_new.restype = ctypes.c_void_p
    loaded.calls_step.argtypes = (ctypes.c_void_p, ctypes.POINTER(Block))
    return loaded


class Thread:
    """A thread that executes one-instruction blocks: ``kdamond``, ``kdamond+8``, each with its end."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        library.tree_clear()
        self._calls = library.calls_new(library.tree_root())

    def run(self, *blocks: str) -> Thread:
        """Run blocks: ``name+offset``, then how each ends: "call", "ret", "iret" or nothing (a jump)."""
        for text in blocks:
            where, _, end = text.partition(" ")
            name, _, offset = where.partition("+")
            addr = NAMES.index(name) * SIZE + int(offset or 0)
            block = Block(
                addr=addr,
                next=addr + 4,
                nr_insns=1,
                id=NAMES.index(name),
                kind=KINDS.get(name, Kind.FUNCTION),
                kernel=name != "[user]",
                entry=not offset,
                calls=end == "call",
                returns=end == "ret",
                irets=end == "iret",
            )
            self._library.calls_step(self._calls, ctypes.byref(block))
        return self

    def tree(self) -> dict[str, tuple[int, int]]:
        """Return {path: (calls, instructions)} of functions that executed instructions or were called."""
        count = ctypes.c_uint32.in_dll(self._library, "nr_nodes").value
        nodes = ctypes.POINTER(Node).in_dll(self._library, "nodes")
        paths = {1: ""}
        result = {}
        for i in range(2, count):
            node = nodes[i]
            paths[i] = f"{paths[node.parent]};{NAMES[node.id]}".lstrip(";")
            result[paths[i]] = (node.nr_calls, node.nr_insns)
        return result


@pytest.fixture
def thread(library: ctypes.CDLL) -> Thread:
    return Thread(library)


def test_call_and_return_make_a_callee(thread: Thread) -> None:
    thread.run("kdamond call", "check", "check+8 call", "walk ret", "check+12 ret", "kdamond+4")
    assert thread.tree() == {"kdamond": (0, 2), "kdamond;check": (1, 3), "kdamond;check;walk": (1, 1)}


def test_every_call_is_counted(thread: Thread) -> None:
    thread.run("kdamond call", "check ret", "kdamond+4", "kdamond call", "check ret", "kdamond+4")
    assert thread.tree()["kdamond;check"] == (2, 2)


def test_tail_call_is_below_its_caller_and_returns_for_it(thread: Thread) -> None:
    thread.run("kdamond call", "check", "walk", "walk+8 ret", "kdamond+4")
    assert thread.tree() == {"kdamond": (0, 2), "kdamond;check": (1, 1), "kdamond;check;walk": (1, 2)}


def test_mutual_tail_calls_do_not_nest_deeper(thread: Thread) -> None:
    thread.run("kdamond call", *["check", "walk"] * 300)
    assert set(thread.tree()) == {"kdamond", "kdamond;check", "kdamond;check;walk"}


def test_retpoline_belongs_to_its_caller(thread: Thread) -> None:
    """A call to the thunk, a call inside the thunk (not counted), ret to the target; the target returns."""
    thread.run("kdamond call", "thunk", "thunk+8 ret", "check ret", "kdamond+4")
    assert thread.tree() == {"kdamond": (0, 4), "kdamond;check": (1, 1)}


def test_thunk_that_only_returns_is_no_call(thread: Thread) -> None:
    thread.run("kdamond call", "thunk ret", "kdamond+4 call", "check ret", "kdamond+8")
    assert thread.tree() == {"kdamond": (0, 4), "kdamond;check": (1, 1)}


def test_return_thunk_returns_for_its_caller(thread: Thread) -> None:
    thread.run("kdamond call", "check", "thunk ret", "kdamond+4")
    assert thread.tree() == {"kdamond": (0, 2), "kdamond;check": (1, 2)}


def test_interrupt_between_call_and_callee_changes_nothing(thread: Thread) -> None:
    thread.run("kdamond call", "timer call", "walk ret", "timer+4 iret", "check ret", "kdamond+4")
    tree = thread.tree()
    assert tree["kdamond;check"] == (1, 1)
    assert tree["kdamond;timer"] == (1, 2)
    assert tree["kdamond;timer;walk"] == (1, 1)


def test_interrupt_between_return_and_caller_changes_nothing(thread: Thread) -> None:
    thread.run("kdamond call", "check ret", "timer iret", "kdamond+4")
    assert thread.tree()["kdamond"] == (0, 2)


def test_vector_stub_and_its_handler_are_one_interrupt(thread: Thread) -> None:
    thread.run("kdamond", "stub+16", "timer iret", "kdamond+4")
    assert thread.tree() == {"kdamond": (0, 2), "kdamond;stub": (1, 1), "kdamond;stub;timer": (1, 1)}


def test_frames_from_before_the_window_are_found_by_returning(thread: Thread) -> None:
    """A thread slept when the window began: the functions that it returns to do not count as called."""
    thread.run("switch+4", "walk+8 ret", "check+8 ret", "kdamond+8 call", "check ret", "kdamond+12")
    tree = thread.tree()
    assert tree["kdamond"] == (0, 2)
    assert tree["kdamond;check"] == (1, 1)


def test_thread_preempted_before_the_window_leaves_its_interrupt(thread: Thread) -> None:
    thread.run("switch+4 ret", "timer+8 iret", "kdamond+8 call", "check ret", "kdamond+12")
    tree = thread.tree()
    assert tree["kdamond"] == (0, 2)
    assert tree["kdamond;check"] == (1, 1)


def test_user_code_forgets_the_kernel_stack(thread: Thread) -> None:
    thread.run("[user]", "kdamond call", "check", "[user]+8", "walk")
    tree = thread.tree()
    assert tree["[user]"][1] == 2
    assert tree["[user];walk"] == (1, 1)


def test_deep_recursion_is_counted_as_lost(thread: Thread, library: ctypes.CDLL) -> None:
    thread.run(*["check call"] * 300)
    assert ctypes.c_uint64.in_dll(library, "nr_lost_frames").value == 300 - 256
