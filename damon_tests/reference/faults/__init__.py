# SPDX-License-Identifier: GPL-2.0
"""Wrong DAMONs, to measure what the suites notice (``damon-tests faults``).

Each ``Fault`` (``fault.py``) replaces one rule of the reference by a wrong one. A file holds the faults of
one area: ``monitoring`` (area core), ``ops``, ``tree``, ``schemes`` and ``actions`` (area schemes),
``quotas``, ``goals``, ``filters``, ``watermarks``, ``stats``, ``commits``, ``modules``. Begin with
``catalogue``, which collects them.

To add a fault, add it to ``FAULTS`` of its area and run ``tests/reference/kill_faults.py --keep NAME``: a
test of the reference has to notice it. If no rule fits, add one to ``rules.ruleset`` that the engine asks.
"""
