# SPDX-License-Identifier: GPL-2.0
"""Judge DAMON_RECLAIM, DAMON_LRU_SORT and DAMON_STAT.

``schemes``: what the schemes of the first two tried, against their parameters. ``stat``: what DAMON_STAT
estimates.
"""
