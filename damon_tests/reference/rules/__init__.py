# SPDX-License-Identifier: GPL-2.0
"""The decisions in which kernel series differ, or which a fault gets wrong, as small pure functions.

Begin with ``ruleset.Rules``, a frozen collection of all of them: defaults are 7.3's. ``levels`` makes those
of each series. The functions stand by subject in ``monitoring``, ``schemes``, ``filters``, ``tree`` and
``modules``; each is one sentence of the specification. ``errors`` is how the core refuses.
"""
