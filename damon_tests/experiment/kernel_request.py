# SPDX-License-Identifier: GPL-2.0
"""The DAMON that a run requests: the ``--kernel`` option, and the options that go with it."""

from __future__ import annotations

import os
import re
import resource
from dataclasses import dataclass

from damon_tests import bundle
from damon_tests.kernel.guest import accel
from damon_tests.kernel.guest.topology import MOST_CPUS, Topology
from damon_tests.kernel.images import image
from damon_tests.kernel.images.arch import of_this_machine
from damon_tests.ports import UsageError
from damon_tests.ports.paging import DEFAULT_PAGE_BYTES, PAGE_SIZES, set_page_size
from damon_tests.ports.word import DEFAULT_WORD_BITS, set_word_bits
from damon_tests.reference.faults import catalogue
from damon_tests.reference.rules.levels import LEVELS


@dataclass(frozen=True)
class KernelRequest:
    """``kernel``: ``reference[:LEVEL][,page=SIZE]``, ``host``, ``debian:SERIES|stable|newest``, or the path
    of an image.

    ``level``: the kernel series to judge it as, None to probe it. ``fault`` makes the reference a wrong DAMON
    (``reference.faults.catalogue``). ``stop_modules``: stop DAMON modules of the host while tests run (see
    ``lease.acquire``). ``keep_guest``: run all attempts in the same guest instead of restoring a guest for
    each. ``guest_clock``: the clock of emulated guests, see ``kernel.guest.qemu.machine_options``.
    ``append``: more parameters for the kernel of a guest. ``memory_mib``, ``cpus``, ``numa_nodes``: what each
    guest has at least; a test that needs more gets more.
    """

    kernel: str = "reference"
    level: str | None = None
    fault: str | None = None
    stop_modules: bool = False
    keep_guest: bool = False
    guest_clock: str | None = None
    append: tuple[str, ...] = ()
    memory_mib: int | None = None
    cpus: int | None = None
    numa_nodes: int | None = None

    @property
    def is_reference(self) -> bool:
        return re.match(r"reference(:|\+|,|$)", self.kernel) is not None

    @property
    def is_host(self) -> bool:
        return self.kernel == "host"

    def guest(self) -> Topology:
        """Return the guest of a test that asks for nothing. Raises UsageError for an impossible one."""
        usual = Topology()
        if self.cpus is not None and self.cpus > MOST_CPUS:
            raise UsageError(f"--cpus {self.cpus}: a guest has at most {MOST_CPUS}")
        return Topology(
            memory_mib=self.memory_mib or usual.memory_mib,
            cpus=self.cpus or usual.cpus,
            numa_nodes=self.numa_nodes or usual.numa_nodes,
            cmdline=self.append,
        )

    def check(self) -> None:
        """Check the options before any kernel is opened.

        Raises UsageError for unknown values and for options that exclude each other.
        """
        if not self.kernel.strip():
            raise UsageError(f"--kernel needs a kernel: {image.KERNELS}")
        if self.level is not None and self.level not in LEVELS:
            raise UsageError(f"unknown level {self.level!r}; known: {', '.join(LEVELS)}")
        if self.stop_modules and not self.is_host:
            raise UsageError(f"--stop-modules needs --kernel host: in {self.kernel} none of them runs")
        if self.is_host or self.is_reference:
            of_guests = {
                "--keep-guest": self.keep_guest,
                "--guest-clock": self.guest_clock,
                "--append": self.append,
                "--memory": self.memory_mib,
                "--cpus": self.cpus,
                "--numa": self.numa_nodes,
            }
            for option, given in of_guests.items():
                if given:
                    raise UsageError(f"{option} needs a kernel in a guest: {self.kernel} is none")
        self.guest()
        if self.is_reference:
            self.reference_level_and_fault()
        elif self.fault is not None:
            raise UsageError(
                f"--fault {self.fault} needs --kernel reference: only that can be made wrong on purpose"
            )
        elif not self.is_host:
            image.check(self.kernel)

    def reference_level_and_fault(self) -> tuple[str, str | None]:
        """Return the level of the reference, and the name of its fault or None.

        ``kernel`` may name both, as in ``reference:7.3+age_always_reset``. Raises UsageError.
        """
        kernel, plus, fault_in_name = self.kernel.partition("+")
        kernel = kernel.partition(",")[0]
        _, colon, named = kernel.partition(":")
        if (colon and not named) or (plus and not fault_in_name):
            raise UsageError(
                f"--kernel {self.kernel}: a level follows the colon, and a fault's name the plus, such as"
                f" reference:{list(LEVELS)[-1]} (levels: {', '.join(LEVELS)}; faults: damon-tests faults)"
            )
        self.page_bytes()
        fault = self.fault if self.fault is not None else fault_in_name or None
        if named and self.level and named != self.level:
            raise UsageError(f"--kernel {kernel} and --level {self.level} disagree; give one of them")
        level = named or (list(LEVELS)[-1] if self.level is None else self.level)
        if level not in LEVELS:
            raise UsageError(f"unknown level {level!r} in --kernel {kernel}; known: {', '.join(LEVELS)}")
        if fault is not None:
            catalogue.fault(fault)
        return level, fault

    def page_bytes(self) -> int:
        """Return the page size of the requested machine, known before it is opened. Raises UsageError.

        That of a reference is in its name: ``reference:7.3,page=16K``.
        """
        if self.is_host:
            return resource.getpagesize()
        if not self.is_reference:
            return image.page_bytes(self.kernel)
        _, comma, option = self.kernel.partition("+")[0].partition(",")
        key, _, size = option.partition("=")
        if not comma:
            return DEFAULT_PAGE_BYTES
        if key != "page" or size not in PAGE_SIZES:
            raise UsageError(
                f"--kernel {self.kernel}: after the comma comes the page size, such as page=16K"
                f" (sizes: {', '.join(PAGE_SIZES)})"
            )
        return PAGE_SIZES[size]

    def word_bits(self) -> int:
        """Return the width of ``unsigned long`` on the requested machine. Raises UsageError."""
        if self.is_reference:
            return DEFAULT_WORD_BITS
        return of_this_machine().word_bits if self.is_host else image.word_bits(self.kernel)

    def expect_machine(self) -> None:
        """Set the page size and the width of numbers that this process expects. Raises UsageError."""
        set_page_size(self.page_bytes())
        set_word_bits(self.word_bits())

    def most_workers(self) -> int:
        """Return how many tests this machine can run at once without disturbing each other's measurements.

        The reference runs in virtual time: one test for each processor. A guest needs one processor, or one
        for each of its CPUs if it uses the machine's clock or KVM. The host has one DAMON.
        """
        processors = len(os.sched_getaffinity(0))
        if self.is_host:
            return 1
        if self.is_reference:
            return processors
        sees_time = self.guest_clock == "host" or accel.known_good(bundle.cache_dir())
        return max(1, processors // (self.guest().cpus if sees_time else 1))

    def check_workers(self, workers: int) -> None:
        """Raise UsageError for more workers than ``most_workers``; the reference allows any number."""
        if workers <= 1 or self.is_reference:
            return
        most = self.most_workers()
        if workers > most:
            raise UsageError(
                f"-n {workers} with --kernel {self.kernel}: at most {most} on this machine, because targets"
                " and DAMON must not wait for processors that other tests keep busy"
            )
