# SPDX-License-Identifier: GPL-2.0
"""One repeatable act: (pattern, request, backend, seed, attempt) to Observation.

Begin at ``live``: it starts targets and DAMON, and a body drives both. ``experiment`` is a script on it,
``attempt`` what it shares with module runs, ``targets`` says what is monitored, ``parts`` cuts a recording
at commits. Which DAMON: ``kernel_request`` (the options), ``open_backend``, ``backend`` (the protocols),
and one module for each kind: ``reference_backend``, ``guest_backend``, ``machine_backend``; the host's
DAMON is used under a ``lease``. How a correct DAMON would have reported the same accesses: ``replica``,
with ``sampling_pace`` and ``sampling_steps``. What a test needs of its machine: ``requirements``,
``machine_survey``.
"""
