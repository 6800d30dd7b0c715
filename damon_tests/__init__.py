# SPDX-License-Identifier: GPL-2.0
"""Tests and validation for DAMON, the Linux kernel's Data Access MONitor.

Packages, from the top: ``commands`` and ``report`` (what people call and read), ``scenario`` (what tests
import), ``judge`` (verdicts), ``experiment`` (one run of DAMON), ``workload``, ``kernel``, ``reference``
(the user-space DAMON and the specification), ``damon`` (vocabulary and client), ``patterns``, ``ports``.
Imports point down only. Begin at ``experiment``; pytest begins at ``plugin``, the command line at ``cli``.
"""

__version__ = "0.1.0"
