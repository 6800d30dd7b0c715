# SPDX-License-Identifier: GPL-2.0
"""Find, download and unpack kernels, and build the files that a guest boots with.

Begin with ``image.resolve``: it turns ``debian:7.3`` or a path into a ``KernelImage`` (vmlinuz, modules,
config). ``packages`` runs apt with a configuration of our own and verifies what it downloads;
``apt_sources`` reads which mirror this machine uses. ``modules`` puts kernel modules into load order,
``initramfs`` writes the cpio archive, ``programs`` finds or builds the C programs (agent, engine).
``userland`` makes the disk with Python for guests that need it, ``busybox`` a small shell, ``ext2`` an
empty file system. ``arch`` holds what differs between processors.

What a kernel is: ``boot_header`` reads its release and page size, ``ikconfig`` the configuration inside it,
``running_config`` that of the kernel under test. ``debug_symbols`` and ``source_lines`` add files and lines
to call traces. ``debian_source`` unpacks the source of a series, ``selftests`` builds its DAMON selftests.
"""
