# SPDX-License-Identifier: GPL-2.0
"""Judge what DAMON costs."""
