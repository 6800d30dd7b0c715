# SPDX-License-Identifier: GPL-2.0
"""The same seed is the same run, bit for bit, in another process as well."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# Of everything that keeps sets, dictionaries or random streams: several targets, processes in groups of
# control, huge and shared memory, nodes, swap, goals, filters of pages, probes, tuning, a module.
RUN = """
import hashlib, sys
from reference_support import *
from damon_tests.damon.params import *
MB = 1 << 20
digest = hashlib.sha256()
goal = DamosQuota(bytes=4 * MB, reset_interval_ms=200, goals=(DamosQuotaGoal("node_mem_free_bp", 9000),))
memcgs = tuple(DamosFilter("memcg", True, True, memcg_path=f"/{name}") for name in "abc")
pageout = Damos("pageout", ANY, quota=goal)
dests = (DamosDest(0, 1), DamosDest(1, 2))
migrate = Damos("migrate_hot", ANY, ops_filters=memcgs, quota=DamosQuota(bytes=MB), dests=dests)
tuning = DamonIntervalsGoal(400, 2, 1_000, 100_000)
probes = (DamonProbe(filters=(DamonProbeFilter("anon", True, True),)),)
for operations in ("vaddr", "paddr"):
    box = Box(32 * MB, [(HEAP, HEAP + 8 * MB)], ram_bytes=256 * MB, nr_nodes=2, swap_bytes=64 * MB, seed=3)
    span = (HEAP, HEAP + 16 * MB)
    pids = [
        box.system.add_process(heap(16 * MB), HotTruth([span], [(HEAP, HEAP + n * MB)]), memcg=f"/{name}",
                               huge=[span] if n == 2 else [])
        for n, name in enumerate("abc", 1)
    ]
    ram = tuple(box.system.ram_ranges())[1:]
    targets = (DamonTarget(0, ram),) if operations == "paddr" else tuple(map(DamonTarget, pids))
    box.start(box.ctx(operations=operations, targets=targets, schemes=(migrate, pageout),
                      intervals_goal=tuning, probes=probes))
    events = box.events.open(["damon_aggregated", "damos_before_apply", "damos_esz"])
    box.run(1)
    for event in events.read():
        digest.update(f"{event.time_ns} {event.text}\\n".encode())
    box.command("update_schemes_stats")
    admin = "/sys/kernel/mm/damon/admin"
    for entry in box.tree.walk(admin):
        if not entry.is_dir and entry.mode & 0o400:
            digest.update(f"{entry.path} {box.tree.read(admin + '/' + entry.path)}".encode())
    memory = box.system.memory
    for array in (memory.owner, memory.page, memory.out_since, memory.cleared_at, memory.active):
        digest.update(array.tobytes())
print(digest.hexdigest())
"""


def run_with(hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert not done.returncode, done.stderr
    return done.stdout


def test_another_process_has_the_same_run():
    """Python orders sets differently in each process: nothing may depend on it."""
    first = run_with("1")
    assert len(first.strip()) == 64
    assert run_with("2") == first
