# SPDX-License-Identifier: GPL-2.0
"""A run as one self-contained page: verdicts by capability, checks with their raw samples, pictures inline.

What went wrong is open, what passed is folded; words, verdict and area narrow the list down (page.js). Files
are also linked, relative to where the page is written: links work while page and run stay where they are.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from damon_tests.ports import NotSupported, output_file
from damon_tests.report import charts, wording
from damon_tests.report.chart_svg import STYLE, chart_svg
from damon_tests.report.matrix import area, matrix
from damon_tests.report.samples_svg import samples_svg

if TYPE_CHECKING:
    from jinja2 import Environment

_PICTURES = {".png": "image/png", ".svg": "image/svg+xml"}
_LARGEST_FILE = 4 << 20
_LARGEST_TEXT = 64 << 10
_MOST_IN_FULL = 1000  # tests; of more, those that passed are a row each: the page must open at once
_LARGEST_PAGE = 18 << 20  # bytes; pictures and logs that do not fit are left beside it, as links
_ROW = 1200  # bytes of a test without them
_MOST_FIGURES = 200

GATE_JSON = "gate.json"
"""Written by a gate beside its merged run."""


def save(run: Mapping[str, Any], directory: Path, path: Path) -> None:
    """Write the page for the run in ``directory`` to ``path``. Raises NotSupported without Jinja2."""
    output_file.write_text(path, page(run, directory, path.resolve().parent))


def page(run: Mapping[str, Any], directory: Path, beside: Path | None = None) -> str:
    """The page's text; pictures and logs of tests that did not pass are read from ``directory``.

    ``beside``: the directory it will be in, to which links to files are relative (None: that of the run).
    """
    environment = _environment(directory, beside)
    order = {verdict: i for i, verdict in enumerate(wording.VERDICTS)}
    embedded = _Embedded(directory, _LARGEST_PAGE - _ROW * len(run["tests"]))
    tests = [_test(t, run, embedded) for t in sorted(run["tests"], key=lambda t: order[t["verdict"]])]
    for test in tests:
        test.update(_more(test, embedded))
    _number_anchors(tests)
    started = run["started"]
    return environment.from_string(_part("page.html.j2")).render(
        css=_part("page.css") + STYLE,
        js=_part("page.js"),
        judged=wording.judged_as(run),
        matrix=matrix(run),
        areas=sorted({t["area"] for t in tests}),
        accuracy=list(_of_kind(tests, "oracle band"))[:_MOST_FIGURES],
        costs=list(_of_kind(tests, "budget"))[:_MOST_FIGURES],
        changes=_changes(directory),
        run=run,
        subject=wording.subject(run),
        counts=wording.counts(run),
        meaning=wording.MEANING,
        tests=tests,
        passed=[t for t in tests if t["verdict"] == "PASS"],
        origin=_origin(run["provenance"]),
        rows_only=any(t["row_only"] for t in tests),
        left_out=embedded.left_out,
        timings=sorted(run["timings"].items(), key=lambda item: -item[1]),
        started="" if started is None else f"{datetime.fromtimestamp(started, UTC):%Y-%m-%d %H:%M} UTC",
        directory=str(directory),
    )


def _environment(directory: Path, beside: Path | None) -> Environment:
    """Return Jinja's environment with the page's filters. Raises NotSupported where it is not installed."""
    try:
        import jinja2
        from markupsafe import Markup
    except ImportError:
        raise NotSupported("the HTML page needs Jinja2", remedy="pip install 'damon-tests[report]'") from None
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    base = os.path.relpath(directory.resolve(), beside or directory.resolve())
    environment.filters.update(
        seconds=wording.seconds,
        quantity=wording.quantity,
        number=_number,
        pretty=_pretty,
        band=lambda check: Markup(samples_svg(check)),
        chart=Markup,
        because=wording.because,
        link=lambda file: quote(os.path.join(base, file)),
    )
    return environment


def _test(test: Mapping[str, Any], run: Mapping[str, Any], embedded: _Embedded) -> dict[str, Any]:
    """A test with what its files hold, when somebody will want to look."""
    files = wording.artifacts(test)
    wanted = test["verdict"] not in ("PASS", "SKIP")
    row_only = test["verdict"] == "PASS" and len(run["tests"]) > _MOST_IN_FULL
    recordings = [f["path"] for f in files if f["kind"] == "recording"]
    return {
        **test,
        "area": area(test["id"]),
        "anchor": re.sub(r"[^A-Za-z0-9_.-]+", "-", test["id"]).strip("-") or "test",
        "order": wording.VERDICTS.index(test["verdict"]),
        "unmet": sorted(wording.unmet(test), key=lambda c: c["holds"] is None),
        "held": [c for c in wording.checks(test) if c["holds"] is True],
        "row_only": row_only,
        "files": files,
        "open": test["verdict"] in ("ERROR", "FAIL", "XPASS", "INCONCLUSIVE"),
        "wanted": wanted,
        "charts": embedded.charts(test) if wanted else [],
        # Of several attempts the last is what the terminal names, too.
        "pictures": [p for f in _pictures(files)[-1:] if wanted and (p := embedded.picture(f))],
        "rerun": "" if row_only or test["verdict"] == "SKIP" else wording.rerun(run, test),
        "recording": recordings[-1] if recordings else "",
    }


def _more(test: Mapping[str, Any], embedded: _Embedded) -> dict[str, Any]:
    """Return what a test shows folded: pictures of earlier attempts, logs. It gets the room that is left."""
    earlier = _pictures(test["files"])[:-1] if test["wanted"] else []
    # A picture as text is for those who have no other.
    texts = [f for f in test["files"] if not (test["pictures"] and f["kind"] == "picture")]
    return {
        "texts": [t for f in texts if (test["wanted"] or f["kind"] == "figures") and (t := embedded.text(f))],
        "more_pictures": [p for f in earlier if (p := embedded.picture(f))],
    }


def _pictures(files: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [f for f in files if Path(f["path"]).suffix in _PICTURES]


def _number_anchors(tests: Sequence[dict[str, Any]]) -> None:
    """Give tests with like ids, or of several DAMONs, anchors of their own."""
    known: dict[str, int] = {}
    for test in tests:
        count = known[test["anchor"]] = known.get(test["anchor"], 0) + 1
        test["anchor"] += f"-{count}" if count > 1 else ""


def _changes(directory: Path) -> list[dict[str, Any]]:
    """Return what a gate found new against its baseline, what got worse first."""
    try:
        return list(json.loads((directory / GATE_JSON).read_text())["changes"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _of_kind(tests: Sequence[Mapping[str, Any]], kind: str) -> Iterator[dict[str, Any]]:
    """Return checks of a kind that hold: the news of a green run."""
    for test in tests:
        for check in test["held"]:
            if check["kind"] == kind and test["verdict"] in ("PASS", "XFAIL"):
                yield {"anchor": test["anchor"], "name": test["id"].rpartition("/")[2], "check": check}


def _part(name: str) -> str:
    return resources.files("damon_tests.report").joinpath(name).read_text(encoding="utf-8")


def _origin(provenance: Mapping[str, Any]) -> str:
    """The provenance that one looks for first: kernel, how it ran, seed, profile, versions."""
    kernel = provenance.get("kernel")
    kernel = kernel if isinstance(kernel, Mapping) else {}
    parts = [
        str(kernel.get("release", "")),
        f"in a VM ({kernel['accel']})" if "accel" in kernel else "",
        f"{provenance['profile']} profile" if "profile" in provenance else "",
        f"seed {provenance['seed']}" if "seed" in provenance else "",
        f"damon-tests {provenance['damon_tests']}" if "damon_tests" in provenance else "",
    ]
    return ", ".join(part for part in parts if part)


class _Embedded:
    """What the page holds of the files in ``directory``: ``room`` bytes.

    ``left_out``: how many files it has no room for.
    """

    def __init__(self, directory: Path, room: int) -> None:
        self.directory = directory
        self.left_out = 0
        self._room = room

    def picture(self, artifact: Mapping[str, Any]) -> dict[str, str] | None:
        mime = _PICTURES[Path(artifact["path"]).suffix]
        data = _content(self.directory / artifact["path"], _LARGEST_FILE)
        if data is None:
            return None
        encoded = base64.b64encode(data).decode()
        title = artifact["title"] or artifact["path"]
        picture = {"title": f"{title}, {artifact['path']}", "source": f"data:{mime};base64,{encoded}"}
        return picture if self._fits(encoded) else None

    def charts(self, test: Mapping[str, Any]) -> list[str]:
        drawn = (chart_svg(chart) for _, chart in charts.of_test(test, self.directory))
        return [chart for chart in drawn if self._fits(chart)]

    def text(self, artifact: Mapping[str, Any]) -> dict[str, str] | None:
        if Path(artifact["path"]).suffix not in (".txt", ".log"):
            return None
        data = _content(self.directory / artifact["path"], _LARGEST_FILE)
        if data is None:
            return None
        text = data.decode(errors="replace")
        if len(text) > _LARGEST_TEXT:
            text = f"(the last {_LARGEST_TEXT >> 10} KiB)\n{text[-_LARGEST_TEXT:]}"
        return {"title": artifact["title"] or artifact["path"], "text": text} if self._fits(text) else None

    def _fits(self, content: str) -> bool:
        """Take the room for it, or count it as left out."""
        fits = len(content) <= self._room
        self._room -= len(content) if fits else 0
        self.left_out += not fits
        return fits


def _content(path: Path, limit: int) -> bytes | None:
    try:
        return path.read_bytes() if path.stat().st_size <= limit else None
    except OSError:
        return None


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def _pretty(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
