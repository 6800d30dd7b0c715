# SPDX-License-Identifier: GPL-2.0
"""Page states and memory sizes of this process are read from procfs."""

import ctypes
import mmap
import os

import pytest

from damon_tests.kernel.host.machine import LocalMachine
from damon_tests.ports import HarnessError, page_size
from damon_tests.workload.memory_info import read_memory_info
from damon_tests.workload.pages import bytes_of, node_spans, read_pages

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="page frames are shown to root only")


@pytest.fixture
def machine():
    return LocalMachine()


def test_touched_pages_are_present_and_others_not(machine):
    area = mmap.mmap(-1, 8 * page_size())
    area[0] = area[3 * page_size()] = 1
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    states = read_pages(machine, os.getpid(), start, start + 8 * page_size())
    assert states.present.tolist() == [True, False, False, True, False, False, False, False]
    assert bytes_of(states.present) == 2 * page_size()
    assert not states.swapped[~states.present].any()
    assert (states.frame[states.present] > 0).all()
    assert (states.node[~states.present] == -1).all()
    assert (states.node[states.present] >= 0).all()
    assert states.part(start + 3 * page_size(), start + 5 * page_size()).present.tolist() == [True, False]
    with pytest.raises(HarnessError, match="were not read"):
        states.part(start, start + 9 * page_size())


def test_memory_of_nodes_adds_up(machine):
    info = read_memory_info(machine)
    assert 0 < info.free < info.total
    # In a container the sum over nodes may be another machine's than /proc/meminfo.
    assert all(0 < info.node_free[nid] < total for nid, total in info.node_total.items())
    assert info.free_permil == info.free * 1000 // info.total
    spans = node_spans(machine)
    assert {node for _, _, node in spans} == set(info.node_total)


def test_lru_sizes_of_control_groups_are_read(tmp_path):
    for path, text in {
        "proc/meminfo": "MemTotal: 8 kB\nMemFree: 4 kB\nActive: 1 kB\nInactive: 2 kB\n",
        "proc/vmstat": "pswpin 0\n",
        "sys/fs/cgroup/memory.stat": "anon 1\n",
        "sys/fs/cgroup/mine/memory.stat": "anon 9\ninactive_anon 1\nactive_anon 2\nactive_file 4\n",
        "sys/fs/cgroup/mine/inner/memory.stat": "active_anon 2\n",
        "sys/fs/cgroup/without/cgroup.procs": "1\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert read_memory_info(LocalMachine(root=tmp_path)).memcg_lru == {"/mine": 7, "/mine/inner": 2}
