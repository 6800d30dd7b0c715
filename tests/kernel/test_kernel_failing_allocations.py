# SPDX-License-Identifier: GPL-2.0
"""Writes during which an allocation fails: what they report, and on which kernels they can be made."""

import errno

import pytest

from damon_tests.kernel import failing_allocations
from damon_tests.kernel.failing_allocations import FailedWrite
from damon_tests.ports import NotSupported


class FakeMachine:
    def __init__(self, written, left):
        self.written, self.left, self.ops = written, left, []

    def batch(self, ops):
        self.ops = ops
        return [1, self.written, self.left, 1]

    def write_file(self, path, data):
        raise FileNotFoundError(errno.ENOENT, "no such file", path)


@pytest.mark.parametrize(
    ("written", "left", "expected"),
    [
        (OSError(errno.ENOMEM, "no memory"), b"0\n", FailedWrite("ENOMEM", failed=True)),
        (2, b"0\n", FailedWrite("0", failed=True)),
        (2, b"7\n", FailedWrite("0", failed=False)),
        (2, OSError(errno.ENOMEM, "no memory"), FailedWrite("0", failed=False)),
    ],
)
def test_write_reports_its_answer_and_whether_an_allocation_failed(written, left, expected):
    machine = FakeMachine(written, left)
    assert failing_allocations.write(machine, "/state", "on", 3) == expected
    assert [op.path for op in machine.ops][:2] == ["/proc/thread-self/fail-nth", "/state"]
    assert machine.ops[0].data == b"3"


def test_allocations_of_another_thread_fail():
    machine = FakeMachine(2, b"0\n")
    failing_allocations.write(machine, "/state", "commit", 1, pid=42)
    assert {op.path for op in machine.ops} == {"/proc/42/fail-nth", "/state"}


def test_kernel_without_failslab_is_not_supported():
    with pytest.raises(NotSupported, match="allocations that fail"):
        failing_allocations.enable(FakeMachine(0, b""))
