# SPDX-License-Identifier: GPL-2.0
"""DAMON's sysfs tree and module parameters, and the simulated system behind them."""
