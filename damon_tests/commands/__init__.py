# SPDX-License-Identifier: GPL-2.0
"""What each ``damon-tests`` command does: one module a command, with one function that ``cli`` calls.

``arguments`` says what the command line understands, ``cli`` turns it into typed values and calls the
function here, which returns the exit code. Begin with ``run``: it starts pytest with the plugin
(``damon_tests.plugin``), and ``run_reporter`` prints instead of pytest. ``report`` shows what a run left
behind, ``doctor`` what a machine can do.

``faults`` and ``false_alarms`` run the suites many times, in processes of their own, to see whether tests
notice wrong DAMONs and accuse none that are right. ``vm``, ``workload``, ``monitor`` and ``recording`` are
for work by hand.
"""
