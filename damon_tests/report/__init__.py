# SPDX-License-Identifier: GPL-2.0
"""Render a run: from its events to what people and programs read.

``events`` writes what happens to ``events.jsonl`` while it happens; ``model`` derives ``run.json`` from it,
also of a run that was killed, and the exit code. Begin there: everything else renders that dictionary.

``terminal`` is its text, ``progress`` what is shown while it lasts, ``html`` the page (page.html.j2,
page.css, page.js), ``junit`` the XML for CI. ``matrix`` and ``wording`` are shared by them. ``artifacts``
keeps the files of each attempt, ``run_directory`` says where, and whose a directory is. Pictures:
``raster`` counts, ``picture`` and ``heatmap_text`` draw, ``draw`` does both for a saved recording.
``output`` knows what a terminal can show.
"""
