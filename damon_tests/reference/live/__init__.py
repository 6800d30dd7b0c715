# SPDX-License-Identifier: GPL-2.0
"""Let the reference watch real processes of this machine (``damon-tests monitor``, ``serve --exec``).

Begin with ``live_truth``: a truth that is measured while the reference asks. The ways to measure, best
first: ``engine_slices`` (what this project's workloads publish), ``write_tracking`` (userfaultfd, with
``ptrace_call`` to make one) and ``page_idle``. ``realtime_clock`` keeps virtual time at real time;
``periodic_truth`` needs no process.
"""
