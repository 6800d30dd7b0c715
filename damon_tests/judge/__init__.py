# SPDX-License-Identifier: GPL-2.0
"""Pure functions: truth and observation to measurements, measurements to verdicts.

Begin at ``expect`` (the checks of a test) and ``verdict`` (measurement, check, verdict); ``conclude`` makes
a test's verdict of its checks, ``chart`` is the picture of a check that does not hold. ``monitoring`` judges
what DAMON reports, from ``all_invariants``; ``schemes`` what schemes did; ``modules`` the built-in modules;
``cost`` what DAMON costs; ``features`` whether a kernel has what its series has. ``rule_limits`` computes the
limits that DAMON's rules set. ``stats`` and ``oracle`` hold the statistics: exact tests, and bands of
replicas. Nothing here runs DAMON: that is ``scenario``.
"""
