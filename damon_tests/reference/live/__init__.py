# SPDX-License-Identifier: GPL-2.0
"""The reference watches real processes of this machine."""
