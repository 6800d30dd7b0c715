# SPDX-License-Identifier: GPL-2.0
"""Render a finished run."""
