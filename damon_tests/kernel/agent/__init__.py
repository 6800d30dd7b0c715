# SPDX-License-Identifier: GPL-2.0
"""Use a guest as a ``ports.Machine``, through the agent that runs in it as init.

The agent is C: ``workloads/src/agent*.c``; ``agent_wire.h`` there describes the protocol.
Begin with ``machine.AgentMachine``: files, processes, mounts and the clock of a guest. ``link`` sends
requests, matches replies to them, and raises MachineLost when the guest dies or hangs. ``streams`` has
processes and followed files, whose data the agent sends unasked. ``wire`` encodes frames and payloads.
"""
