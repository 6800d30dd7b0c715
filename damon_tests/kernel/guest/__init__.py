# SPDX-License-Identifier: GPL-2.0
"""QEMU guests: boot one per kernel and topology, save it when ready, restore it for every test.

How a guest boots, file by file: ``guest`` (``Guests.fresh``, begin reading there) asks ``qemu`` for a QEMU
that works and ``accel`` whether KVM boots, and puts both with the kernel image and the ``topology``
(memory, CPUs, swap, disk) into a ``launch.Plan``. ``launch`` builds the initramfs (agent, engine, modules)
and QEMU's command line and starts QEMU, with ``qmp`` as its control socket. ``boot`` waits until the agent
answers (``kernel.agent``) and gives up on a silent or panicked boot. ``setup`` prepares what the topology
asks for. ``snapshot`` saves memory and state under the plan's key; every later guest of the same plan is
QEMU started with ``-incoming`` from that state, with a new random seed.

On the instruction clock, ``pause`` stops the guest while the harness computes. ``plugin_control`` gives
orders to a plugin of QEMU: ``cost_plugin`` counts instructions per kernel function, with ``symbols`` from
/proc/kallsyms, and ``access_plugin`` records which pages programs access, in the form that
``access_report`` parses. ``selftest_run`` runs one of the kernel's own DAMON selftests.
"""
