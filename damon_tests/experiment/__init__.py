# SPDX-License-Identifier: GPL-2.0
"""One repeatable act: (pattern, request, backend, seed, attempt) to Observation.

Begin at ``live``: it starts targets and DAMON, and a body drives both; ``endings`` says how it ends.
``experiment`` is a script on it, ``trial`` binds one to a backend, ``attempt`` is what it shares with module
runs, ``observation`` its outcome. ``targets`` says what is monitored, ``parts`` cuts a recording at commits,
``physical_view`` shows paddr as an address space, ``page_frames`` reads the frames of a target.
``program_run`` watches a real program.

Which DAMON: ``kernel_request`` (the options), ``open_backend``, ``backend`` (the protocols), and one module
for each kind: ``reference_backend`` (with ``simulated_memory``), ``guest_backend``, ``machine_backend``; the
host's DAMON is used under a ``lease``. What a test needs of its machine: ``requirements``,
``machine_survey``, ``allowed_skips``.

How a correct DAMON would have reported the same accesses: ``replica``, with ``sampling_pace``,
``sampling_steps``, ``committed_steps`` and ``sampling_timetable``; ``truth_replay`` for a saved truth.
"""
