# SPDX-License-Identifier: GPL-2.0
"""Pure functions: truth and observation to measurements, measurements to verdicts."""
