# SPDX-License-Identifier: GPL-2.0
"""Judge what DAMON costs.

``budget`` holds measured costs to limits, ``compare`` finds differences between two runs, ``scaling`` how
costs grow, ``change_points`` when they changed. Samples come from ``scenario.cost_runs``.
"""
