# SPDX-License-Identifier: GPL-2.0
"""DAMON's vocabulary, and the client of its interfaces that every backend shares.

Begin at ``params`` (what is asked for), ``records`` (what is reported) and ``session`` (turn on, record,
commit, turn off). ``params_check`` refuses wrong requests, ``params_json`` writes and reads them.

``client`` and ``layout`` write and read the sysfs tree, ``keywords`` has the words that its files take;
``results`` reads a scheme's directories, ``tree_access`` waits while the tree is busy, ``errno_meanings``
explains refusals. ``modules`` (with ``module_params``) is the client of DAMON_RECLAIM and its like; ``users``
finds who uses DAMON. ``tracefs``, ``trace``, ``trace_lines`` and ``collector`` read tracepoints, ``sleeps``
when a kdamond slept.

``capability`` and ``features``: what a kernel has, ``expected_features``: what it must have;
``kernel_config``: how it was built; ``series``: what kernel series do differently. ``known_defects`` and
``past_bugs`` read the tables of the suites. ``recording_file`` and ``scheme_reports_json`` define our files;
damo's are written by ``damo_format``, and read by ``damo_import``, ``damo_text``, ``damo_params`` and
``damo_values``.
"""
