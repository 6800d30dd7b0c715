# SPDX-License-Identifier: GPL-2.0
"""Tests and validation for DAMON, the Linux kernel's Data Access MONitor.

Packages, from the top: ``arguments`` and ``commands`` (the command line), ``report`` (what people read),
``scenario`` (what tests import), ``judge`` (verdicts), ``experiment`` (one run of DAMON), ``workload``,
``kernel``, ``reference`` (the user-space DAMON and the specification), ``damon`` (vocabulary and client),
``patterns``, ``ports``. Imports point down only. Begin at ``experiment``.

The command line begins at ``cli``, pytest at ``plugin``. The plugin's parts: ``pytest_options`` (options),
``pytest_items`` (what a test needs), ``pytest_run`` (what one process keeps), ``pytest_results`` (verdicts
and exit code), ``pytest_skips`` (``--allow-skips``). ``bundle`` finds the project's data files.
"""

import time

# The process itself may be older: ci/bootstrap installs the project, then becomes the command.
BEGAN_S = time.time()
"""When this process began to use the project, in seconds since the epoch."""

__version__ = "0.1.0"
