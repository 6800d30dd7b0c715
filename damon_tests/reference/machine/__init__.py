# SPDX-License-Identifier: GPL-2.0
"""The simulated machine: clock, processes, page tables, physical frames, accessed bits."""
