# SPDX-License-Identifier: GPL-2.0
"""A user-space DAMON behind the kernel's own sysfs tree."""
