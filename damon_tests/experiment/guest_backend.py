# SPDX-License-Identifier: GPL-2.0
"""Kernels in guests as backends: a guest restored for every attempt, or a guest kept for all attempts."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from damon_tests.damon.capability import Capabilities, fingerprint, probe
from damon_tests.damon.client import DamonClient
from damon_tests.damon.kernel_config import KernelConfig
from damon_tests.damon.series import Level
from damon_tests.experiment.backend import Subject
from damon_tests.experiment.machine_backend import MachineSubject
from damon_tests.experiment.requirements import Needs
from damon_tests.kernel.guest.guest import Guest, Guests
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.images.image import KernelImage
from damon_tests.kernel.images.running_config import running_config
from damon_tests.kernel.images.source_lines import with_source_lines
from damon_tests.ports import HarnessError, page_size

ENGINE_IN_GUEST = "/bin/damon-tests-engine"


class GuestBackend:
    """``--kernel debian:X`` or a kernel image: boot once per topology, restore for every attempt.

    ``keep``: do not restore. The same guest runs all attempts that fit its topology, one after the other, as
    long as it answers; this shows leaks and what an earlier context left behind. ``clock``: the clock of
    emulated guests, see ``qemu.machine_options``. ``usual``: what every guest has at least, and its kernel
    parameters; see ``Topology.on``.
    """

    simulated = False
    shows_all_accesses = False

    def __init__(
        self,
        image: KernelImage,
        run_dir: Path,
        level: str | None = None,
        *,
        keep: bool = False,
        clock: str = "instructions",
        usual: Topology | None = None,
    ) -> None:
        self.name = image.spec
        self._image = image
        self._guests = Guests(run_dir, clock=clock)
        self._level = level
        self._keep = keep
        self._usual = usual or Topology()
        self._kept: tuple[Topology, Guest] | None = None
        self._capabilities: Capabilities | None = None
        self._provenance: dict[str, object] = {}
        self._config = KernelConfig("not read yet", None)

    @property
    def level(self) -> str:
        if self._level is None:
            self.capabilities()
        assert self._level is not None
        return Level(self._level, self._image.release)

    def subject(self, seed: int, topology: Topology | None = None) -> Subject:
        wanted = (topology or Topology()).on(self._usual)
        if not self._keep:
            return self._fresh(seed, wanted, self.level)
        level = self.level  # before this attempt's guest starts: probing the level starts a guest, too
        return self._subject(self._long_lived(seed, wanted), level, closes=False)

    def _long_lived(self, seed: int, topology: Topology) -> Guest:
        if self._kept is not None:
            before, guest = self._kept
            if before == topology and guest.alive():
                return guest
            guest.close()
        guest = self._guests.fresh(self._image, topology, seed)
        self._provenance.update(guest.provenance)
        self._kept = topology, guest
        return guest

    def _fresh(self, seed: int, topology: Topology, level: str) -> MachineSubject:
        guest = self._guests.fresh(self._image, topology, seed)
        self._provenance.update(guest.provenance)
        return self._subject(guest, level, closes=True)

    def _subject(self, guest: Guest, level: str, *, closes: bool) -> MachineSubject:
        _require_page_size(guest.machine.facts.page_size, self.name)
        # Earlier lines of the kernel log belong to earlier attempts.
        said = 0 if closes else len(guest.dmesg())
        return MachineSubject(
            guest.machine,
            level,
            engine_path=ENGINE_IN_GUEST,
            work_dir="/tmp",  # the guest's own, a tmpfs
            log=lambda: with_source_lines(guest.dmesg()[said:], self._image),
            release=guest.close if closes else lambda: None,
            probe=guest.probe,
            accesses=guest.accesses,
        )

    def capabilities(self) -> Capabilities:
        """Probe once, in a guest of its own that is thrown away."""
        if self._capabilities is None:
            subject = self._fresh(0, self._usual, "")
            try:
                client = DamonClient(subject.tree, subject.clock)
                self._capabilities = probe(client, subject.events)
                self._level = self._level or fingerprint(self._capabilities)
                self._config = running_config(subject.machine, self._image.release, self._image)
            finally:
                subject.close()
        return self._capabilities

    def kernel_config(self) -> KernelConfig:
        return self._config

    def machine_has(self) -> Needs | None:
        return None

    def provenance(self) -> Mapping[str, object]:
        return {
            "kind": "guest",
            "release": self._image.release,
            "config": self._config.digest,
            "config_options": self._config.relevant,
            "packages": [list(p) for p in self._image.packages],
            "host": platform.release(),
            "host_cpus": os.cpu_count(),
            "one_guest_for_all": self._keep,
            **self._provenance,
        }

    def close(self) -> None:
        self._guests.close()


def _require_page_size(page_bytes: int, name: str) -> None:
    """Raise HarnessError for a guest with other pages than the tests were collected for."""
    if page_bytes != page_size():
        raise HarnessError(
            f"{name} has pages of {page_bytes} bytes, its image promised {page_size()}: what tests expect of"
            " it would be wrong"
        )
