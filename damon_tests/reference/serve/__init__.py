# SPDX-License-Identifier: GPL-2.0
"""Show the reference's tree as real files, to programs that know only the kernel's (``damon-tests serve``).

Begin with ``server`` (a directory, or around a command) and ``fuse`` (one server's life). ``sysfs_files``
answers file operations as sysfs does; ``fuse_direct`` and ``fuse_library`` carry them, over ``fuse_wire``
or libfuse. ``served_system`` is the simulated machine in real time, ``helper_process`` gives its kdamonds
pids. Around a command, ``hide_kernel_damon`` covers the machine's own DAMON, and ``perf_stand_in`` is its
perf. ``linux_calls`` has the system calls that Python lacks.
"""
