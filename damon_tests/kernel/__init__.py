# SPDX-License-Identifier: GPL-2.0
"""The kernel under test and the machine it runs on: images, guests, their agent, this host.

- ``images/``: find, download or build what a guest boots: kernel, modules, initramfs, userland.
- ``build/``: build a kernel from a source tree.
- ``guest/``: boot QEMU guests, save them when ready, restore one per test.
- ``agent/``: talk to the agent in a guest; the guest becomes a ``ports.Machine``.
- ``host/``: the same for this machine, plus the journal that undoes what a run changed on it.

Modules at this level work on any machine: ``machine_tree`` reads and writes DAMON's sysfs tree;
``splat`` and ``ktap`` parse kernel logs and test output, ``symbolize`` adds files and lines to call traces;
``schedstat`` and ``slab`` measure CPU time and slab objects; ``failing_allocations`` lets a chosen allocation
fail. Begin with ``machine_tree``, then
``guest.guest`` or ``host.machine``.
"""
