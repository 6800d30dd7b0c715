# SPDX-License-Identifier: GPL-2.0
"""This machine as a Machine, and the journal that undoes what a run changed on it."""
