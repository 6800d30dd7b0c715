# SPDX-License-Identifier: GPL-2.0
"""One repeatable act: (pattern, request, backend, seed, attempt) to Observation."""
