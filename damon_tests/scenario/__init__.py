# SPDX-License-Identifier: GPL-2.0
"""What a test writer imports: fixtures, runs that the test drives, quota and module runs."""
