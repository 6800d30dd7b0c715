# SPDX-License-Identifier: GPL-2.0
"""On real kernels: a lease refuses a DAMON that is in use, and does not change it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from damon_tests.damon.modules import ModuleClient
from damon_tests.damon.users import ADMIN, MODULES, usage
from damon_tests.experiment.lease import acquire
from damon_tests.kernel.guest.guest import Guest, Guests
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.host.machine import LocalClock
from damon_tests.kernel.images import busybox
from damon_tests.kernel.images.image import KernelImage, resolve
from damon_tests.kernel.machine_tree import MachineTree
from damon_tests.ports import NSEC_PER_SEC, NotSupported, Pending, SpawnRequest

pytestmark = pytest.mark.vm

KERNELS = ("debian:newest", "debian:stable")
KDAMONDS = f"{ADMIN}/kdamonds"
COUNT = f"{KDAMONDS}/nr_kdamonds"
SOON_NS = 60 * NSEC_PER_SEC


class WatchedTree(MachineTree):
    """A guest's tree that records the writes made through it."""

    def __init__(self, guest: Guest) -> None:
        super().__init__(guest.machine)
        self.written: list[tuple[str, str]] = []

    def write(self, path: str, value: str) -> None:
        self.written.append((path, value))
        super().write(path, value)

    def begin_write(self, path: str, value: str) -> Pending:
        self.written.append((path, value))
        return super().begin_write(path, value)

    def write_batch(self, writes: Sequence[tuple[str, str]]) -> None:
        self.written += writes
        super().write_batch(writes)

    def picture(self) -> dict[str, str | None]:
        """Return the values of all of DAMON's files, except the modules' measured values (mode 0400)."""
        values = {f"{ADMIN}/{e.path}": e.value for e in self.walk(ADMIN)}
        for module in MODULES:
            parameters = f"/sys/module/{module}/parameters"
            if self.exists(parameters):
                entries = self.walk(parameters)
                values |= {f"{parameters}/{e.path}": e.value for e in entries if e.mode & 0o200}
        return values


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guests]:
    with Guests(tmp_path_factory.mktemp("guests")) as made:
        yield made


@pytest.fixture(scope="module", params=KERNELS)
def image(request: pytest.FixtureRequest) -> KernelImage:
    return resolve(request.param)


@pytest.fixture
def tree(guests: Guests, image: KernelImage) -> Iterator[WatchedTree]:
    with guests.fresh(image, Topology(), seed=1) as guest:
        yield WatchedTree(guest)


@pytest.fixture
def module(tree: WatchedTree) -> str:
    """A running module that somebody else started: DAMON_STAT where the kernel has it."""
    names = [m for m in ("damon_stat", "damon_reclaim") if tree.exists(f"/sys/module/{m}")]
    MachineTree.write(tree, enabled(names[0]), "Y")
    assert tree.read(enabled(names[0])) == "Y\n"
    return names[0]


def enabled(module: str) -> str:
    return f"/sys/module/{module}/parameters/enabled"


def stage(tree: MachineTree, count: int = 1) -> None:
    """Stage kdamonds that monitor the guest's first process."""
    MachineTree.write(tree, COUNT, str(count))
    for index in range(count):
        contexts = f"{KDAMONDS}/{index}/contexts"
        for path, value in (
            (f"{contexts}/nr_contexts", "1"),
            (f"{contexts}/0/operations", "vaddr"),
            (f"{contexts}/0/targets/nr_targets", "1"),
            (f"{contexts}/0/targets/0/pid_target", "1"),
        ):
            MachineTree.write(tree, path, value)


def turn_on(tree: MachineTree, index: int = 0) -> str:
    """Turn a kdamond on; return its pid."""
    MachineTree.write(tree, f"{KDAMONDS}/{index}/state", "on")
    return tree.read(f"{KDAMONDS}/{index}/pid").strip()


@pytest.mark.parametrize("stop_modules", [False, True])
def test_a_foreign_kdamond_is_named_and_keeps_running(tree: WatchedTree, stop_modules: bool) -> None:
    stage(tree, 2)
    pid = turn_on(tree, 1)
    before = tree.picture()
    with pytest.raises(NotSupported, match=rf"kdamonds/1 of the sysfs tree \(pid {pid}\) is on"):
        acquire(tree, None, "guest", stop_modules=stop_modules)
    assert tree.written == []
    assert tree.picture() == before
    assert before[f"{KDAMONDS}/1/state"] == "on\n"
    assert before[f"{KDAMONDS}/1/pid"] == f"{pid}\n"


def test_kdamonds_staged_by_others_are_not_taken(tree: WatchedTree) -> None:
    stage(tree)
    before = tree.picture()
    with pytest.raises(NotSupported, match="nr_kdamonds is 1"):
        acquire(tree, None, "guest")
    assert tree.written == []
    assert tree.picture() == before


def test_a_running_module_is_named_and_keeps_running(tree: WatchedTree, module: str) -> None:
    before = tree.picture()
    with pytest.raises(NotSupported, match=f"module {module}"):
        acquire(tree, None, "guest")
    assert tree.written == []
    assert tree.picture() == before
    assert [user.name for user in usage(tree).users] == [module]


def test_a_module_is_stopped_and_restored_when_the_user_asked(tree: WatchedTree, module: str) -> None:
    before = tree.picture()
    with acquire(tree, None, "guest", stop_modules=True) as lease:
        assert lease.stopped == (module,)
        assert usage(tree).users == ()
        lease.tree.write(COUNT, "1")
        contexts = f"{KDAMONDS}/0/contexts"
        lease.tree.write(f"{contexts}/nr_contexts", "1")
        lease.tree.write_batch(
            [
                (f"{contexts}/0/operations", "vaddr"),
                (f"{contexts}/0/targets/nr_targets", "1"),
                (f"{contexts}/0/targets/0/pid_target", "1"),
            ]
        )
        lease.tree.begin_write(f"{KDAMONDS}/0/state", "on").result(SOON_NS)
        assert [user.kind for user in usage(tree).users] == ["kdamond"]
    assert tree.picture() == before
    assert [user.name for user in usage(tree).users] == [module]


def test_recovery_turns_off_modules_of_a_dead_run(tree: WatchedTree, module: str) -> None:
    """Recover a run that died while it had a module on: the module is off, its parameters (the monitoring
    region too) are restored, and modules that ran before the run are on again."""
    before = tree.picture()
    with acquire(tree, None, "guest", stop_modules=True) as lease:
        reclaim = ModuleClient(lease.tree, LocalClock(), "damon_reclaim")
        for name, value in {"min_age": 5, "wmarks_high": 0, "wmarks_mid": 0, "skip_anon": True}.items():
            reclaim.write(name, value)
        reclaim.enable()
        assert [user.name for user in usage(tree).users] == ["damon_reclaim"]
        assert reclaim.number("monitor_region_end") > 0
    assert tree.picture() == before
    assert [user.name for user in usage(tree).users] == [module]


def test_second_user_without_common_lock_is_refused(tree: WatchedTree) -> None:
    """Without a common lock, as with another tool, the second user is refused and the first undisturbed."""
    with acquire(tree, None, "guest") as lease:
        lease.tree.write(COUNT, "1")
        contexts = f"{KDAMONDS}/0/contexts"
        lease.tree.write(f"{contexts}/nr_contexts", "1")
        lease.tree.write(f"{contexts}/0/targets/nr_targets", "1")
        lease.tree.write(f"{contexts}/0/targets/0/pid_target", "1")
        lease.tree.write(f"{KDAMONDS}/0/state", "on")
        before, written = tree.picture(), list(tree.written)
        with pytest.raises(NotSupported, match="kdamonds/0"):
            acquire(tree, None, "guest")
        assert tree.written == written
        assert tree.picture() == before
    assert tree.read(COUNT) == "0\n"


def test_new_kdamond_directory_has_another_inode_number(guests: Guests, image: KernelImage) -> None:
    """A journal relies on this to recognize a later directory of the same name."""

    def inode(guest: Guest) -> int:
        stat = guest.machine.spawn(SpawnRequest(["/bin/busybox", "stat", "-c", "%i", f"{KDAMONDS}/0"]))
        assert stat.wait(SOON_NS).ok
        return int(stat.read_stdout())

    with guests.live(image, Topology(), extra=busybox.nodes()) as guest:
        tree = MachineTree(guest.machine)
        tree.write(COUNT, "1")
        first = inode(guest)
        tree.write(f"{KDAMONDS}/0/contexts/nr_contexts", "1")
        assert inode(guest) == first
        inodes = {first}
        for _ in range(5):
            tree.write(COUNT, "1")
            inodes.add(inode(guest))
        assert len(inodes) == 6
