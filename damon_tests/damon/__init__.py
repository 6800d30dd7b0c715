# SPDX-License-Identifier: GPL-2.0
"""DAMON's vocabulary, and the client of its interfaces that every backend shares.

Begin at ``params`` (what is asked for), ``records`` (what is reported) and ``session`` (turn on, record,
commit, turn off). ``client`` and ``layout`` write and read the sysfs tree; ``tree_access`` waits while it
is busy, and ``errno_meanings`` explains refusals. ``modules`` is the client of DAMON_RECLAIM and its like.
``tracefs``, ``trace`` and ``collector`` read tracepoints, ``sleeps`` when a kdamond slept. ``capability``
and ``features``: what a kernel has; ``kernel_config``: how it was built; ``series``: what kernel series do
differently. ``recording_file``
defines our files, ``damo_*`` damo's.
"""
