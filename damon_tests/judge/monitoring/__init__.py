# SPDX-License-Identifier: GPL-2.0
"""Judge what DAMON reports of accesses: regions, counts, ages, against truth and against the reference.

Begin at ``all_invariants``: every exact check of a recording. ``report_vs_truth`` compares a recording with
what was touched, ``metrics`` condenses the comparison, ``band_metrics`` names the metrics that replicas
judge.
"""
