# SPDX-License-Identifier: GPL-2.0
"""Tests and validation for DAMON, the Linux kernel's Data Access MONitor."""

__version__ = "0.1.0"
