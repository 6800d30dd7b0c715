# SPDX-License-Identifier: GPL-2.0
"""What each ``damon-tests`` command does: the functions that ``cli`` calls.

``arguments`` defines the command line, ``cli`` turns it into typed values and calls a function here, which
returns the exit code. Begin with ``run``: it starts pytest with the plugin (``damon_tests.plugin``), and
``run_reporter`` prints instead of pytest.

- Kernels: ``gate`` runs the suites on several, ``gate_tree`` on what it builds of a source tree (its options:
  ``tree_options``; the tests of a commit: ``commit_tests``), ``build`` only builds. ``bisect`` finds the
  commit that broke DAMON, with ``bisect_kernel`` for each commit.
- The kernel's own tests: ``kunit``; ``kselftest`` (judged by ``selftest_verdict``) and ``kselftest_install``.
- The suites themselves: ``faults`` and ``false_alarms`` run them many times, in processes of their own, to
  see whether tests notice wrong DAMONs and accuse none that are right; ``fault_kinds`` prints kinds of bugs,
  ``killers`` a test that notices a fault. ``doctor`` and ``suite_outlook`` say what a machine can run,
  ``new_test`` writes the skeleton of a test.
- Results: ``report`` prints a run, ``upstream`` a failed test as a mail or an issue, ``defects`` and
  ``findings`` what is known to be wrong in which kernels. ``recording`` shows, converts and judges one file.
- Cost and accuracy: ``bench``, ``compare``, ``history``, ``savings``, ``explore``, ``truth``.
- By hand: ``vm``, ``workload``, ``monitor``. What the last does is chosen in ``monitor_options``:
  ``monitor_kernel`` watches with a kernel, ``playback`` shows a recording again; ``live_view`` draws,
  ``keys`` reads the keyboard.
"""
