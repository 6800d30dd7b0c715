# SPDX-License-Identifier: GPL-2.0
"""The kernel under test and the machine it runs on."""
