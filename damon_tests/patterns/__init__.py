# SPDX-License-Identifier: GPL-2.0
"""What will be accessed: patterns, and how they are read from files."""
