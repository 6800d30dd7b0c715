# SPDX-License-Identifier: GPL-2.0
"""The user-space DAMON: the kernel's behaviour, by series, behind the kernel's own sysfs tree.

``specification/`` says in words what DAMON does; the code cites its sections (§) and invariants (I). Wings,
each imports only from those below it:

``serve`` shows the tree as real files (FUSE) to other programs; ``live`` watches real processes of this
machine; ``sysfs`` is the tree, its commands and the modules, and ``sysfs.system.ReferenceSystem``, the
whole simulated machine; ``core`` is mm/damon/core.c: contexts, regions, the kdamond, schemes, quotas;
``machine`` simulates clock, processes and memory; ``faults`` are wrong DAMONs; ``rules`` are the decisions
in which kernel series differ.

Begin with ``core.kdamond``, the main loop, and ``rules.ruleset``, what it asks; then ``sysfs.system``.
"""
