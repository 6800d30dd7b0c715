# SPDX-License-Identifier: GPL-2.0
"""DAMON's core as mm/damon/core.c has it: contexts, regions, kdamond, schemes, quotas.

Begin with ``kdamond``: its main loop has the kernel's steps in the kernel's order. ``context`` is struct
damon_ctx, ``regions`` its regions as numpy arrays (``region_list`` those of one target, for passes of
schemes), ``build`` makes a context from a request and commits into it. ``ops`` samples, ``probes`` looks at
attributes of sampled pages, ``merge`` and ``split`` change the layout, ``intervals`` rescales and tunes.
``damos`` is one pass of schemes, with ``schemes``, ``quota``, ``goals``, ``filters`` and ``actions``.
``tracepoints`` prints events. ``batch`` runs many replicas of one monitoring run at once, for oracle bands.
"""
