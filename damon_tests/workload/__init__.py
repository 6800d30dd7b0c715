# SPDX-License-Identifier: GPL-2.0
"""Make processes perform a pattern on a machine, and tell the truth about it."""
