# SPDX-License-Identifier: GPL-2.0
"""The simulated machine: clock, processes, page tables, physical frames, accessed bits.

Begin with ``memory``: processes (``process``) and the frames that hold their pages (``frames``). ``clock``
is virtual time: advancing it runs whatever sleeps. What touches memory is a ``ports.Truth``;
``accessed_bits`` and ``tlb`` say what of it accessed bits show. ``folios`` are frames as actions and page
filters see them.
"""
