# SPDX-License-Identifier: GPL-2.0
"""Judge what DAMON reports of accesses: regions, counts, ages, against truth and against the reference."""
