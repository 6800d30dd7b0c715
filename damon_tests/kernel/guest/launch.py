# SPDX-License-Identifier: GPL-2.0
"""Start one guest under QEMU: make its initramfs, command line and sockets."""

from __future__ import annotations

import hashlib
import logging
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from damon_tests.kernel.guest import setup
from damon_tests.kernel.guest.plugin_control import Control
from damon_tests.kernel.guest.qemu import (
    INSTRUCTION_CLOCK,
    Qemu,
    QemuProcess,
    machine_options,
    memory_options,
)
from damon_tests.kernel.guest.qmp import Qmp
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.images import initramfs
from damon_tests.kernel.images.image import KernelImage
from damon_tests.kernel.images.modules import ModuleTree
from damon_tests.kernel.images.programs import AGENT, ENGINE, program
from damon_tests.ports import HarnessError, NotSupported

log = logging.getLogger(__name__)

AGENT_PORT = "damon-tests.agent"
"""Name of the virtio port that the agent opens (workloads/src/agent_init.c)."""

_CMDLINE = (
    # A serial console delivers every line even when the guest dies; it costs 0.1 s of the boot.
    "loglevel=7 printk.devkmsg=on"
    # With -no-reboot, QEMU exits at a panic.
    " panic=-1"
    # A running DAMON_STAT keeps other DAMON users out; suites that need it turn it on.
    " damon_stat.enabled=N"
    # Without this, every restored guest first runs the kernel's crypto self-tests: 1.4 G instructions.
    " cryptomgr.notests"
)


@dataclass(frozen=True)
class Plan:
    """Everything that determines how a guest boots; equal plans give equal guests.

    ``extra`` adds files to the guest's root: {path: node}. ``disk`` is an image for /dev/vda, named
    after a hash of its contents. ``clock``: see ``qemu.machine_options``.
    """

    image: KernelImage
    topology: Topology
    qemu: Qemu
    accel: str
    extra: Mapping[str, initramfs.Node] = field(default_factory=dict)
    disk: Path | None = None
    clock: str = "host"

    @property
    def cmdline(self) -> str:
        arch = self.image.arch
        words = [f"console={arch.console}", _CMDLINE]
        words += [arch.cmdline_tcg] if self.accel == "tcg" else []
        if self.clock == "instructions":
            words.append("damon_tests.steady")
        if self.on_serial_line:
            words.append(f"damon_tests.agent={arch.agent_line}")
        if self.topology.hugetlb_pages:
            words.append(f"hugepages={self.topology.hugetlb_pages}")
        return " ".join([*words, *self.topology.cmdline])

    @property
    def on_serial_line(self) -> bool:
        """Return whether the agent must use a (slow) serial line, because the kernel has no virtio port."""
        config, modules = self.image.config, self.image.modules
        if config is None:
            return False
        good = ("y", "m") if modules else ("y",)
        return not all(config.get(name) in good for name in ("CONFIG_VIRTIO_CONSOLE", "CONFIG_VIRTIO_PCI"))

    @cached_property
    def initramfs(self) -> bytes:
        return guest_initramfs(self.image, self.topology, self.extra)

    @property
    def key(self) -> str:
        """Return a hash of everything that shapes the guest; saved guests with the same key are equal."""
        parts = (
            self.image.sha256,
            # Counting instructions changes nothing inside the guest.
            repr(replace(self.topology, instructions=False)),
            self.cmdline,
            hashlib.sha256(self.initramfs).hexdigest(),
            self.qemu.version,
            self.image.arch.machine,
            self.image.arch.tcg_cpu if self.accel == "tcg" else "",
            self.accel,
            INSTRUCTION_CLOCK if self.clock == "instructions" else "",
            self.disk.name if self.disk else "",
            _cpu_model() if self.accel == "kvm" else "",
            _set_up_code(),
        )
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _set_up_code() -> str:
    """Return a hash of the code that prepares a guest before it is saved."""
    return hashlib.sha256(Path(setup.__file__).read_bytes()).hexdigest()


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().split("\n\n", maxsplit=1)[0].splitlines()
    return "".join(line for line in lines if line.startswith(("model", "stepping", "microcode", "flags")))


def guest_initramfs(image: KernelImage, topology: Topology, extra: Mapping[str, initramfs.Node]) -> bytes:
    """Build the initramfs: the agent as /init, the workload engine if it builds, the needed modules.

    Raises NotSupported when the agent is not built, or a module does not exist.
    """
    nodes = {
        **extra,
        "init": initramfs.program(program(AGENT, image.arch).read_bytes()),
        "dev/console": initramfs.character_device(5, 1),
    }
    try:
        nodes[f"bin/{ENGINE}"] = initramfs.program(program(ENGINE, image.arch).read_bytes())
    except (NotSupported, HarnessError) as error:  # guests without the engine are useful, too
        log.warning("guests come without the workload engine: %s", error)
    tree = ModuleTree(image.modules, image.config)
    channel = [name for name in ("virtio_pci", "virtio_console") if tree.has(name)]
    modules = tree.load_order([*channel, *topology.modules])
    for name, contents in modules:
        nodes[f"lib/modules/{name}.ko"] = initramfs.plain(contents)
    nodes["modules.list"] = initramfs.plain("".join(f"/lib/modules/{n}.ko\n" for n, _ in modules).encode())
    return initramfs.archive(nodes)


class RunningGuest:
    """A started QEMU with its sockets for agent and QMP; its kernel may not have booted yet."""

    def __init__(
        self,
        plan: Plan,
        directory: Path,
        memory: Sequence[Path],
        *,
        saving: bool = False,
        restoring: bool = False,
        terminal: bool = False,
    ) -> None:
        """Start QEMU.

        ``directory``: the guest's own, for console.log and qemu.log; the initramfs is put beside it.
        ``memory``: one file per NUMA node, written to when ``saving``; empty: anonymous memory.
        ``terminal``: make ``self.terminal``, a socket to the guest's /dev/hvc0.
        """
        self.plan = plan
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.console = directory / "console.log"
        topology = plan.topology
        options = [
            *machine_options(plan.accel, plan.clock, topology.cpus, topology.memory_mib, plan.image.arch),
            *memory_options(memory, topology.memory_mib, topology.numa_nodes, topology.cpus, share=saving),
            *_boot_options(plan, directory, self.console),
        ]
        if restoring:
            options += ["-incoming", "defer"]
        self.control = Control(directory) if topology.instructions and not saving else None
        if self.control:
            options += self.control.options()
        self.agent, theirs_agent = socket.socketpair()
        control, theirs_qmp = socket.socketpair()
        sockets = {"agent": theirs_agent, "qmp": theirs_qmp}
        self.terminal: socket.socket | None = None
        if terminal:
            self.terminal, sockets["terminal"] = socket.socketpair()
            options += ["-device", "virtconsole,chardev=terminal"]
        self.process = QemuProcess(plan.qemu, options, directory / "qemu.log", sockets)
        self._connect(control)

    def _connect(self, control: socket.socket) -> None:
        """Open the QMP session, as ``qmp``. Raises HarnessError if QEMU ended or lacks its plugin."""
        try:
            self.qmp = Qmp(control)
        except HarnessError as error:
            self.kill()
            control.close()
            hint = " (the plugin that counts instructions is made for QEMU 10.0)" if self.control else ""
            raise HarnessError(f"QEMU did not start: {self.process.complaint() or error}{hint}") from error
        if self.control and not self.control.loaded:
            self.kill()
            raise HarnessError(
                f"QEMU {self.plan.qemu.version} runs without the plugin that counts instructions, or with one"
                " of another version: build the programs again"
                f" ({self.process.complaint() or 'QEMU is silent'})"
            )

    def console_text(self) -> str:
        """Return what the guest's console printed so far, and QEMU's own error output."""
        try:
            text = self.console.read_text(encoding="utf-8", errors="replace").replace("\r", "")
        except OSError:
            text = ""
        complaint = self.process.complaint()
        return f"{text}\nQEMU: {complaint}\n" if complaint else text

    def kill(self) -> None:
        """Kill QEMU and close its sockets; may be called twice."""
        self.process.kill()
        self.agent.close()
        if self.terminal:
            self.terminal.close()
        if hasattr(self, "qmp"):
            self.qmp.close()


def _boot_options(plan: Plan, directory: Path, console_log: Path) -> list[str]:
    """Return QEMU's options for kernel, console, the agent's line, QMP and the disk."""
    escaped = str(console_log).replace(",", ",,")
    options = ["-kernel", str(plan.image.vmlinuz), "-initrd", str(_initrd_file(plan, directory))]
    options += ["-append", plan.cmdline]
    options += ["-chardev", f"file,id=console,path={escaped}", "-serial", "chardev:console"]
    options += ["-device", "virtio-serial-pci"]
    if plan.on_serial_line:
        options += ["-serial", "chardev:agent"]
    else:
        options += ["-device", f"virtserialport,chardev=agent,name={AGENT_PORT}"]
    options += ["-mon", "chardev=qmp,mode=control"]
    if plan.disk:
        path = str(plan.disk).replace(",", ",,")
        options += ["-drive", f"file={path},if=virtio,format=raw,readonly=on"]
    return options


def _initrd_file(plan: Plan, directory: Path) -> Path:
    """Write the initramfs once for all guests of a plan below the same parent; return its path."""
    path = directory.parent / f"initramfs-{hashlib.sha256(plan.initramfs).hexdigest()[:16]}.cpio"
    if not path.exists():
        partial = directory / "initramfs.partial"
        partial.write_bytes(plan.initramfs)
        partial.replace(path)
    return path
