# SPDX-License-Identifier: GPL-2.0
"""Judge what DAMON reports of accesses: regions, counts, ages, against truth and against the reference.

Begin at ``all_invariants``: every exact check of a recording. ``invariants`` and ``closed_forms`` hold for
every workload; ``region_counts``, ``ages`` and ``merged_ages`` are about regions; ``sampling_interval`` and
``intervals_in_samples`` about time; ``interval_tuning`` about the tuner. ``judged_windows`` and
``disturbances`` say which windows count. ``observation_charts`` draws what fails.

Report and truth: ``aggregation_windows`` (the time of each snapshot), ``report`` and ``report_vs_truth``
compare them, ``true_rates`` and ``true_ages`` compute the truth, ``perfect_report`` is what a DAMON would
report that sees everything. ``metrics`` condenses the comparison (``window_sums``), ``band_metrics`` names
the metrics that replicas judge, ``conformance_metrics`` those of distributions. ``tradeoff`` judges
attributes, ``recording_verdict`` a recording on disk.
"""
