# SPDX-License-Identifier: GPL-2.0
"""Choose KVM or emulation by a trial boot, because /dev/kvm may exist and still not run a kernel."""

from __future__ import annotations

import json
import logging
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from damon_tests.kernel.agent.machine import AgentMachine
from damon_tests.kernel.guest.launch import Plan, RunningGuest
from damon_tests.kernel.guest.qemu import Qemu
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.images.image import KernelImage
from damon_tests.ports import HarnessError

log = logging.getLogger(__name__)

_DEVICE = Path("/dev/kvm")
_TRIAL_S = 60.0


@dataclass(frozen=True)
class Accel:
    """``name`` is "kvm" or "tcg" (emulation); ``why`` is the reason for emulation, empty with KVM."""

    name: str
    why: str = ""


def choose(image: KernelImage, qemu: Qemu, cache: Path, work_dir: Path) -> Accel:
    """Return KVM if a guest boots with it. The trial runs once per boot of this machine and QEMU version."""
    if image.arch.name != platform.machine():
        return Accel("tcg", f"this machine is {platform.machine()}, the kernel {image.arch.name}")
    if not _DEVICE.exists():
        return Accel("tcg", "this machine has no /dev/kvm")
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return Accel("tcg", "no permission for /dev/kvm")
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    key = f"{platform.release()} qemu {qemu.version} boot {boot_id}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "kvm.lock"):
        known = _read(cache / "kvm.json")
        if key not in known:
            known = {key: _try(image, qemu, work_dir / "kvm-trial")}
            (cache / "kvm.json").write_text(json.dumps(known, indent=1) + "\n")
    return Accel("tcg", known[key]) if known[key] else Accel("kvm")


def known_good(cache: Path) -> bool:
    """Return whether the last trial since this machine was booted found that KVM works."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return any(boot_id in key and not failure for key, failure in _read(cache / "kvm.json").items())


def _read(path: Path) -> dict[str, str]:
    try:
        known: dict[str, str] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known


def _try(image: KernelImage, qemu: Qemu, directory: Path) -> str:
    """Try a boot with KVM; return why it failed, or an empty string when it worked."""
    log.info("trying whether KVM boots a guest")
    plan = Plan(image, Topology(memory_mib=512), qemu, "kvm")
    _ = plan.initramfs  # build it outside of the try block: a failure here is not KVM's fault
    running = None
    try:
        running = RunningGuest(plan, directory, ())
        AgentMachine(running.agent, "the KVM trial", hello_s=_TRIAL_S).close()
    except HarnessError as error:
        words = (running.process.complaint() if running else "") or str(error)
        return f"a trial boot with KVM failed: {words.splitlines()[0].rpartition('error: ')[2]}"
    finally:
        if running:
            running.kill()
    return ""
