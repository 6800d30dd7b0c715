# SPDX-License-Identifier: GPL-2.0
"""DAMON's core as ``mm/damon/core.c`` has it: contexts, regions, kdamond, schemes, quotas."""
