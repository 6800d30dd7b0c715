# SPDX-License-Identifier: GPL-2.0
"""DAMON's vocabulary (requests, observations) and the client every backend shares."""
