# SPDX-License-Identifier: GPL-2.0
"""Judge DAMON_RECLAIM, DAMON_LRU_SORT and DAMON_STAT."""
