# SPDX-License-Identifier: GPL-2.0
"""What a test writer imports: fixtures, runs that the test drives, quota and module runs.

Begin at ``fixtures`` (``experiment`` and ``live``) and ``module_fixture``; suites/README.md shows each with
an example. ``invariants`` and ``reference_bands`` judge a run. Runs that many tests share: ``quota_run``,
``watched_run``, ``filtered_run``, ``acting``, ``module_run`` (with ``module_attributes``, ``free_memory``).
``conformance`` compares distributions with the reference's, ``abi_walk`` the answers of the sysfs interface.
``visibility`` and ``exact_clock`` say what a machine can show. ``target_end`` ends a target and its DAMON.

- Drawn cases: ``drawing`` draws and shrinks, ``drawn_layouts`` and ``drawn_accesses`` are the cases.
- Real programs: ``program_fixture``, ``program_accuracy``.
- DAMON's cost: ``cost_catalogue`` lists the benchmarks of ``cost_runs``, ``cost_actions`` and
  ``cost_schemes``, for which ``cost_setup`` makes a kdamond whose work is known.
- The workload's cost: ``workload_cost``; ``slowdown`` by monitoring; ``savings`` by the schemes of
  ``savings_uses``, of ``savings_patterns`` and ``savings_programs``.
- Accuracy over cost: ``exploration`` of a pattern, ``truth_exploration`` of a recorded program.
"""
