# SPDX-License-Identifier: GPL-2.0
"""What a test writer imports: fixtures, runs that the test drives, quota and module runs.

Begin at ``fixtures`` (``experiment`` and ``live``) and ``module_fixture``. ``invariants`` and
``reference_bands`` judge a run; ``quota_run``, ``watched_run``, ``filtered_run`` and ``acting`` are runs
that many tests share; ``cost_*`` measure what DAMON costs. suites/README.md shows each with an example.
"""
