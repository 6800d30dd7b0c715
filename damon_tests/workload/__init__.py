# SPDX-License-Identifier: GPL-2.0
"""Targets that perform a pattern, and the truth about which pages they touched when.

Begin at ``target``: the protocol of a running target. ``engine`` starts the C engine on a machine
(``engine_program``, ``engine_files``, ``line_protocol``); ``simulated`` is a target without a process.
``layout`` places their memory.

The truth: ``pattern_truth`` computes it from the pattern, ``pass_log_truth`` from the engine's log (what both
share: ``pass_truth``), ``slice_truth`` from its bitmaps; ``frame_truth`` is by physical address,
``huge_page_truth`` by huge page, ``moved_truth`` through another mapping, ``maybe_touched`` an upper bound
for unknown accesses. The slots that a pass touches: ``access_slots``, with ``random_order``,
``weighted_order`` and ``chase_order``; the times of passes: ``pass_times``. The current state of memory:
``pages`` and ``memory_info``.

Real programs (``program_spec``, ``program``) have no pattern: ``access_truth`` is what an emulator recorded
of them, ``truth_file`` saves it.
"""
