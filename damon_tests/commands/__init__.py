# SPDX-License-Identifier: GPL-2.0
"""What each ``damon-tests`` command does."""
