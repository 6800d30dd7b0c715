# SPDX-License-Identifier: GPL-2.0
"""The catalogue of wrong DAMONs."""
