# SPDX-License-Identifier: GPL-2.0
"""Render a run: from its events to what people and programs read.

``events`` writes what happens to ``events.jsonl`` while it happens; ``model`` derives ``run.json`` from it,
also of a run that was killed, and the exit code. Begin there: everything else renders that dictionary.

- A run as text: ``terminal``, ``progress`` (while it lasts), ``matrix``, ``scheme_lines``, ``wording``;
  ``output`` knows what a terminal can show. As a page: ``html`` (page.html.j2, page.css, page.js). For
  programs: ``junit``, ``ktap``, ``kcidb``. For maintainers: ``mail``, ``mail_kernels``, and ``reproducer``,
  the script in it.
- Files: ``artifacts`` keeps those of each attempt, ``run_directory`` says where, and whose a directory is.
- Several runs: ``merge`` joins them; ``verdict_changes`` and ``cost_changes`` compare two.
- Heat maps: ``raster`` counts, ``stretches`` is the address axis, ``picture`` and ``heatmap_text`` draw,
  ``draw`` does both for a saved recording, ``two_recordings`` for two.
- Charts of checks (``judge.chart``): ``charts`` finds those of a run, ``chart_svg``, ``chart_png`` and
  ``chart_axes`` draw, ``samples_svg`` draws raw samples. ``figure`` makes and saves matplotlib's figures.
- Cost: ``bench_record`` and ``bench_history`` keep benchmark runs, ``flame`` draws the difference of two;
  ``savings``, ``tradeoff`` and ``perf_report`` render what DAMON saves, and accuracy over cost.
"""
