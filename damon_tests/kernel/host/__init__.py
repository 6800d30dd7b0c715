# SPDX-License-Identifier: GPL-2.0
"""Use this machine as a ``ports.Machine``, and undo what a run changes on it.

Begin with ``machine.LocalMachine`` (files, processes, clock; ``streams`` reads its pipes and followed
files). ``journaled`` wraps a Machine or a Tree so that every change is in a ``journal`` on disk before
it is made. ``undo`` reverts one change per kind; ``restore`` reads the journals of dead runs and reverts
them; ``guard`` is the process that does so at once when a run is killed; ``owner`` identifies the process
that made a change. ``kernel_log`` reads /dev/kmsg for complaints about DAMON.

``guard``, ``restore``, ``undo`` and ``owner`` import only the standard library and each other.
"""
