# SPDX-License-Identifier: GPL-2.0
"""Patterns: which memory is accessed, how often, and when; and how to read them from files.

Begin at ``spec``, the values, and at ``workloads/patterns/README.md``, the format. ``load`` reads YAML,
with ``access_terms``, ``pass_schedule``, ``span``, ``phase_actions``, ``units`` and ``yaml_nodes`` for its
parts; ``masim`` reads configurations of masim; ``dump`` writes a pattern back. ``mapped`` computes the mapped
ranges over time.
"""
