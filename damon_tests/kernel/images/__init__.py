# SPDX-License-Identifier: GPL-2.0
"""Kernels and the files a guest boots with: found, fetched, unpacked."""
