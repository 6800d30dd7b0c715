# SPDX-License-Identifier: GPL-2.0
"""Guests: boot one for each kernel and topology, save it when ready, restore it for every test."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from damon_tests import bundle
from damon_tests.kernel.agent.machine import AgentMachine
from damon_tests.kernel.guest import accel, qemu
from damon_tests.kernel.guest.access_plugin import EmulatorAccesses
from damon_tests.kernel.guest.boot import bring_up, connect
from damon_tests.kernel.guest.cost_plugin import EmulatorProbe
from damon_tests.kernel.guest.launch import Plan, RunningGuest
from damon_tests.kernel.guest.pause import Pause
from damon_tests.kernel.guest.plugin_control import Plugin
from damon_tests.kernel.guest.setup import set_up
from damon_tests.kernel.guest.snapshot import BootedGuest, SnapshotStore, load_state, memory_files, save_state
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.images import busybox, userland
from damon_tests.kernel.images.arch import ARCHITECTURES, X86_64
from damon_tests.kernel.images.image import KernelImage
from damon_tests.kernel.images.initramfs import Node
from damon_tests.kernel.images.packages import using
from damon_tests.kernel.schedstat import SchedstatProbe
from damon_tests.kernel.splat import Splat, parse_splats
from damon_tests.ports import NSEC_PER_SEC, HarnessError, NotSupported
from damon_tests.ports.accesses import AccessProbe
from damon_tests.ports.cost import CostProbe

log = logging.getLogger(__name__)

RESTORE_TIMEOUT_S = 30.0
_QEMU_OVERHEAD_MIB = 200
_MARK = "damon-tests: the log up to here"


class Guest:
    """A running guest. Use it as a context manager, or call ``close``.

    ``machine`` gives access to its files and processes; ``provenance`` describes the guest and how long it
    took to boot and restore; ``probe`` measures what its threads cost, ``accesses`` records what its programs
    access (None without the QEMU plugin).
    """

    def __init__(
        self,
        running: RunningGuest,
        machine: AgentMachine,
        provenance: dict[str, object],
        on_close: Callable[[Guest], None],
        plugin: Plugin | None = None,
    ) -> None:
        self.machine = machine
        self.provenance = provenance
        self.probe: CostProbe = EmulatorProbe(plugin) if plugin else SchedstatProbe(machine)
        self.accesses: AccessProbe | None = EmulatorAccesses(plugin) if plugin else None
        self._running = running
        self._on_close = on_close

    @property
    def terminal(self) -> socket.socket | None:
        """Return our end of the guest's /dev/hvc0, or None if it was booted without a terminal."""
        return self._running.terminal

    @property
    def pid(self) -> int:
        """Return the pid of QEMU's process."""
        return self._running.process.pid

    def dmesg(self) -> str:
        """Return what the kernel printed since this guest was restored (or booted, for ``Guests.live``).

        Works on a dead guest, too. For a running guest, the text is complete up to this call.
        """
        self._await_mark()
        lines = self._running.console_text().splitlines(keepends=True)
        return "".join(line for line in lines if _MARK not in line)

    def splats(self) -> list[Splat]:
        """Return the kernel's bug reports (BUG, WARNING, KASAN, …) in ``dmesg()``."""
        return parse_splats(self.dmesg())

    def alive(self) -> bool:
        """Return whether its agent answers within five seconds."""
        if self._running.process.poll() is not None:
            return False
        try:
            self.machine.ping(5 * NSEC_PER_SEC)
        except HarnessError:
            return False
        return True

    def close(self) -> None:
        """Kill the guest; it holds nothing that needs a shutdown. May be called twice."""
        self.machine.close()
        self._running.kill()
        self._on_close(self)

    def _await_mark(self) -> None:
        """Write a marker to kmsg and wait until the console shows it: newer kernels print asynchronously."""
        if self._running.process.poll() is not None:
            return
        mark = f"{_MARK} {uuid.uuid4()}"
        with contextlib.suppress(OSError, HarnessError):
            self.machine.write_file("/dev/kmsg", f"<5>{mark}\n".encode())
            deadline = time.monotonic() + 2.0
            with self.machine.running():
                while mark not in self._running.console_text() and time.monotonic() < deadline:
                    time.sleep(0.002)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Guests:
    """The guests of one run; ``close`` kills them all.

    Logs go to ``run_dir``; saved guests are shared with other runs through ``cache``. ``clock`` applies to
    emulated guests: see ``qemu.machine_options``.
    """

    def __init__(self, run_dir: Path, cache: Path | None = None, clock: str = "host") -> None:
        self._clock = clock
        self._dir = run_dir / "guests"
        self._dir.mkdir(parents=True, exist_ok=True)
        self._cache = cache or bundle.cache_dir()
        with using(self._cache):
            self._store = SnapshotStore(self._cache)
        self._plans: dict[tuple[str, Topology], tuple[Plan, accel.Accel]] = {}
        self._booted: dict[str, BootedGuest] = {}
        self._open: set[Guest] = set()

    def boot(self, image: KernelImage, topology: Topology) -> BootedGuest:
        """Boot and save a guest of this kind, unless this or another run already has."""
        plan, _ = self._plan(image, topology)
        if plan.key not in self._booted:
            with self._store.lock(plan.key):
                saved = self._store.load(plan.key)
                self._booted[plan.key] = saved or self._boot_and_save(plan)
        return self._booted[plan.key]

    def fresh(self, image: KernelImage, topology: Topology, seed: int) -> Guest:
        """Restore a pristine guest and reseed its random number generator from ``seed``.

        Raises NotSupported (no QEMU, no DAMON), HarnessError (too little memory, broken image).
        """
        started = time.monotonic()
        plan, chosen = self._plan(image, topology)
        booted = self.boot(image, topology)
        _require_memory(topology)
        began = time.monotonic()
        try:
            running, machine = self._restore(plan, booted)
        except HarnessError as error:
            # The saved guest may be damaged, or removed meanwhile: boot again.
            log.warning("a saved guest could not be restored, booting again: %s", error)
            with self._store.lock(plan.key):
                self._booted[plan.key] = booted = self._boot_and_save(plan)
            began = time.monotonic()
            running, machine = self._restore(plan, booted)
        machine.reseed(hashlib.sha512(f"guest random state {seed}".encode()).digest())
        now = time.monotonic()
        facts = {
            "boot_s": booted.boot_s,
            "boot_attempts": booted.boot_attempts,
            "boot_splats": list(booted.boot_splats),
            "restore_s": now - began,
            "fresh_s": now - started,
        }
        return self._guest(plan, chosen, running, machine, facts, booted.directory / "kallsyms")

    def live(
        self,
        image: KernelImage,
        topology: Topology,
        extra: Mapping[str, Node] | None = None,
        terminal: bool = False,
    ) -> Guest:
        """Boot a guest for one user who keeps it: it is not saved, and ``dmesg()`` has its boot log.

        ``extra`` files are added to its root; with ``terminal``, ``Guest.terminal`` is our end of
        its /dev/hvc0.
        """
        plan, chosen = self._plan(image, topology)
        plan = replace(plan, extra={**plan.extra, **(extra or {})})
        _require_memory(topology)
        up = bring_up(lambda: RunningGuest(plan, self._new_dir(), (), terminal=terminal))
        try:
            set_up(up.machine, topology)
        except BaseException:
            up.machine.close()
            up.running.kill()
            raise
        facts = {"boot_s": up.boot_s, "boot_attempts": up.attempts}
        return self._guest(plan, chosen, up.running, up.machine, facts)

    def close(self) -> None:
        """Kill all guests. May be called twice."""
        for guest in list(self._open):
            guest.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _plan(self, image: KernelImage, topology: Topology) -> tuple[Plan, accel.Accel]:
        key = (image.sha256, topology)
        if key not in self._plans:
            if platform.machine() not in ARCHITECTURES:
                known = " or ".join(ARCHITECTURES)
                raise NotSupported(f"guests on {platform.machine()}", remedy=f"use a machine with {known}")
            image.require_damon()
            _require_arch(image, topology)
            emulator = qemu.find(arch=image.arch)
            if topology.instructions:
                chosen, clock = accel.Accel("tcg", "instructions are counted"), "instructions"
            else:
                chosen = accel.choose(image, emulator, self._cache, self._dir)
                counts = chosen.name == "tcg" and image.arch.counts_instructions
                clock = self._clock if counts else "host"
            plan = Plan(image, topology, emulator, chosen.name, clock=clock)
            if topology.userland:
                files = busybox.nodes(self._cache)
                plan = replace(plan, disk=userland.disk(self._cache, topology.packages), extra=files)
            self._plans[key] = plan, chosen
        return self._plans[key]

    def _new_dir(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="guest-", dir=self._dir))

    def _boot_and_save(self, plan: Plan) -> BootedGuest:
        """Boot a guest and store it. The caller holds the lock of the plan's key."""
        topology = plan.topology
        _require_memory(topology)
        log.info("booting %s (%s)", plan.image.release, plan.accel)
        sizes = [topology.memory_mib // topology.numa_nodes] * topology.numa_nodes
        with memory_files(sizes, otherwise=self._dir) as memory:
            up = bring_up(lambda: self._start_to_save(plan, memory))
            running = up.running
            try:
                set_up(up.machine, topology)
                began = time.monotonic()
                save_state(running.qmp, running.directory / "state")
                save_s = time.monotonic() - began
                up.machine.close()
            finally:
                running.kill()
            boot_log = running.console_text()
            booted = BootedGuest(
                directory=running.directory,
                memory=tuple(memory),
                boot_log=boot_log,
                boot_s=up.boot_s,
                boot_attempts=up.attempts,
                save_s=save_s,
                boot_splats=tuple(f"{s.kind}: {s.title}" for s in parse_splats(boot_log)),
            )
            with using(self._cache):
                return self._store.store(plan.key, booted)

    def _start_to_save(self, plan: Plan, memory: Sequence[Path]) -> RunningGuest:
        for path in memory:  # drop what a failed attempt wrote
            path.unlink(missing_ok=True)
        return RunningGuest(plan, self._new_dir(), memory, saving=True)

    def _restore(self, plan: Plan, booted: BootedGuest) -> tuple[RunningGuest, AgentMachine]:
        with contextlib.suppress(OSError):
            os.utime(booted.directory)  # mark it as in use, so that no run removes it to make room
        running = RunningGuest(plan, self._new_dir(), booted.memory, restoring=True)
        try:
            load_state(running.qmp, booted.state)
            return running, connect(running, RESTORE_TIMEOUT_S)
        except BaseException:
            running.kill()
            raise

    def _guest(
        self,
        plan: Plan,
        chosen: accel.Accel,
        running: RunningGuest,
        machine: AgentMachine,
        more: Mapping[str, object],
        kallsyms: Path | None = None,
    ) -> Guest:
        provenance: dict[str, object] = {
            "kernel": machine.facts.release,
            "arch": plan.image.arch.name,
            "cmdline": plan.cmdline,
            "accel": chosen.name,
            "accel_why": chosen.why,
            "clock": plan.clock,
            "qemu": plan.qemu.version,
            "memory_mib": plan.topology.memory_mib,
            "cpus": plan.topology.cpus,
            "numa_nodes": plan.topology.numa_nodes,
            "notes": list(plan.image.notes),
            **more,
        }
        if plan.clock == "instructions":
            machine.runs_only_within(Pause(running.qmp).running)
        plugin = None
        if running.control:
            pid = running.process.pid
            plugin = Plugin(machine, running.control, running.directory, kallsyms, pid)
        guest = Guest(running, machine, provenance, self._open.discard, plugin)
        self._open.add(guest)
        return guest


def _require_arch(image: KernelImage, topology: Topology) -> None:
    """Raise NotSupported for what only x86-64 guests have: counted instructions, Debian's programs."""
    for asked, what in (
        (topology.instructions, "counting the instructions"),
        (topology.userland, "Debian's programs in the guest"),
    ):
        if asked and image.arch is not X86_64:
            raise NotSupported(f"{what} of {image.arch.name}", remedy="use a kernel for x86-64 for this")


def _require_memory(topology: Topology) -> None:
    """Raise HarnessError when this machine has too little free memory for the guest now."""
    needed = topology.memory_mib + _QEMU_OVERHEAD_MIB
    available = available_mib()
    if available < needed:
        raise HarnessError(
            f"a guest of {topology.memory_mib} MiB needs {needed} MiB of free memory, and this machine has"
            f" {available} MiB: end other programs, or take a smaller guest"
        )


def available_mib() -> int:
    """Return MemAvailable of this machine, in MiB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    raise HarnessError("/proc/meminfo has no MemAvailable")
