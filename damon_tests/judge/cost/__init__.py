# SPDX-License-Identifier: GPL-2.0
"""Judge what DAMON costs, and what it saves.

``budget`` holds measured costs (``samples``, from ``scenario.cost_runs``) to limits, ``compare`` finds
differences between two runs, ``scaling`` how costs grow, ``change_points`` when they changed. ``savings``
compares a workload under a scheme with the same without.
"""
