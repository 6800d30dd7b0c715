# SPDX-License-Identifier: GPL-2.0
"""DAMON's sysfs tree and module parameters, and the simulated system behind them.

Begin with ``system.ReferenceSystem``, the whole simulated machine. ``tree`` is its ``ports.Tree``; ``abi``
lists every file with format (``formats``), default and first series; ``kobjects`` are the directories and
files made from that. ``commands`` serves writes to ``state``, with the request that ``staged_request``
reads from the directories. ``modules`` are DAMON_RECLAIM, DAMON_LRU_SORT and DAMON_STAT (``module_abi``,
``module_requests``). ``drgn_dump`` shows running contexts as a debugger would.
"""
