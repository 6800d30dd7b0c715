# SPDX-License-Identifier: GPL-2.0
"""The connection to the agent in a guest, as a Machine."""
