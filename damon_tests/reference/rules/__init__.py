# SPDX-License-Identifier: GPL-2.0
"""What kernel series decided differently, as small pure functions, and the series themselves."""
