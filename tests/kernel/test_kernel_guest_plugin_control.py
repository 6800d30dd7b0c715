# SPDX-License-Identifier: GPL-2.0
"""Windows of the QEMU plugin end whatever happens in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from damon_tests.kernel.guest.plugin_control import Control, Order, Plugin, Window
from damon_tests.ports import MachineLost

ORDER = Order(Window.COST, "kdamond")


class Recorded(Plugin):
    """Remembers the orders to end; ``lost``: the guest is gone when the order comes."""

    def __init__(self, directory: Path, *, lost: bool = False) -> None:
        super().__init__(None, Control(directory), directory, None, 1)  # type: ignore[arg-type]
        self.ended: list[Order] = []
        self._lost = lost

    def end(self, order: Order) -> str:
        self.ended.append(order)
        if self._lost:
            raise MachineLost("the guest is gone")
        return ""


@pytest.mark.parametrize("lost", [False, True])
def test_window_ends_when_its_block_raises(tmp_path: Path, lost: bool) -> None:
    """The error that is seen is the block's own, also where the guest is gone."""
    plugin = Recorded(tmp_path, lost=lost)
    with pytest.raises(KeyError, match="mine"), plugin.ended_on_errors(ORDER):
        raise KeyError("mine")
    assert plugin.ended == [ORDER]


def test_window_is_left_open_for_who_reads_it(tmp_path: Path) -> None:
    plugin = Recorded(tmp_path)
    with plugin.ended_on_errors(ORDER):
        pass
    assert plugin.ended == []
