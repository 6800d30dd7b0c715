# SPDX-License-Identifier: GPL-2.0
"""A user-space DAMON behind the kernel's own sysfs tree.

What a correct DAMON does, by kernel series, is in ``SPECIFICATION.md`` beside this file: sections ("§4.10"),
invariants ("I47"), bugs of the past ("§8.3, 15") and quirks ("Q14") are cited by number throughout the tree.
"""
