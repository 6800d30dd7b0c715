# SPDX-License-Identifier: GPL-2.0
"""JUnit XML of a run, for the CI systems that read nothing else."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from damon_tests.ports import output_file
from damon_tests.report import wording

# Characters that XML 1.0 cannot hold, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_FAILURES = ("FAIL", "XPASS", "INCONCLUSIVE")


def save(run: Mapping[str, Any], path: Path) -> None:
    """Write ``path``. FAIL, XPASS and INCONCLUSIVE are failures (their type says which), ERROR is an
    error, SKIP and XFAIL are skipped; a SKIP of a run with --require is a failure."""
    tree = ET.ElementTree(suites(run))
    ET.indent(tree)
    with output_file.writing(path) as file:
        tree.write(file, encoding="utf-8", xml_declaration=True)


def suites(run: Mapping[str, Any]) -> ET.Element:
    """The document's root element: one suite with one case a test."""
    root = ET.Element("testsuites")
    suite = ET.SubElement(root, "testsuite", name=_clean(f"damon-tests {wording.subject(run)}"))
    kinds = {"failures": 0, "errors": 0, "skipped": 0}
    for test in run["tests"]:
        kind = _case(suite, run, test)
        if kind:
            kinds[kind] += 1
    if run["started"] is not None:
        suite.set("timestamp", datetime.fromtimestamp(run["started"], UTC).isoformat(timespec="seconds"))
    suite.set("tests", str(len(run["tests"])))
    # What CI systems add up, and what it is then compared with: the wall time is a property.
    suite.set("time", f"{sum(round(t['duration_s'], 3) for t in run['tests']):.3f}")
    for name, number in kinds.items():
        suite.set(name, str(number))
    properties = ET.Element("properties")
    _property(properties, "wall_time_s", f"{run['duration_s']:.3f}")
    for name, value in _flat(run["provenance"]):
        _property(properties, name, _plain(value))
    suite.insert(0, properties)
    return root


def _property(properties: ET.Element, name: str, value: str) -> None:
    ET.SubElement(properties, "property", name=_clean(name), value=_clean(value))


def _plain(value: object) -> str:
    """A value as plain text: lists with spaces between, nothing for None."""
    if isinstance(value, list | tuple):
        return " ".join(_plain(v) for v in value)
    return "" if value is None else str(value)


def _case_properties(case: ET.Element, run: Mapping[str, Any], test: Mapping[str, Any]) -> None:
    """How to repeat a test, and on what its verdict rests."""
    properties = ET.SubElement(case, "properties")
    alphas = sorted({c["alpha"] for c in wording.checks(test) if c["alpha"]})
    seeds = [a["seed"] for a in test["attempts"] if a["seed"] is not None]
    for name, value in (
        ("verdict", test["verdict"]),
        ("backend", test["backend"]),
        ("judged_as", test["level"]),
        ("attempts", len(test["attempts"])),
        ("seeds", seeds),
        ("alpha", alphas),
        ("file", test["id"].partition("::")[0]),
        ("rerun", wording.rerun(run, test)),
    ):
        _property(properties, name, _plain(value))


def _case(suite: ET.Element, run: Mapping[str, Any], test: Mapping[str, Any]) -> str:
    """Append a test; says what it counts as ("" for a passed one)."""
    file, _, name = test["id"].partition("::")
    classname = file.removesuffix(".py").strip("/").replace("/", ".")
    case = ET.SubElement(suite, "testcase", classname=_clean(classname), name=_clean(name or file))
    case.set("time", f"{test['duration_s']:.3f}")
    _case_properties(case, run, test)
    verdict, kind = test["verdict"], ""
    if verdict == "ERROR":
        kind, tag = "errors", "error"
    elif verdict in _FAILURES or (verdict == "SKIP" and run["require"]):
        kind, tag = "failures", "failure"
    elif verdict in ("SKIP", "XFAIL"):
        kind, tag = "skipped", "skipped"
    if kind:
        element = ET.SubElement(case, tag, type=verdict, message=_clean(_one_line(test["reason"])))
        element.text = _clean(_evidence(test))
    return kind


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _evidence(test: Mapping[str, Any]) -> str:
    lines = []
    for check in wording.unmet(test):
        if check["holds"] is not True:
            m = check["measurement"]
            lines.append(
                f"{m['name']} = {wording.quantity(m['value'], m['unit'])}, expected {check['limit']}"
            )
            lines.append(f"  because {wording.because(check)} [{check['kind']}]")
            if check["detail"]:
                lines.append(f"  {check['detail']}")
    lines += [f"{a['kind']}: {a['path']}" for a in wording.artifacts(test)]
    return "\n".join(lines)


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    properties: list[tuple[str, object]] = []
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            properties += _flat(inner, f"{prefix}{name}.")
        elif isinstance(inner, list) and inner and all(isinstance(each, Mapping) for each in inner):
            for number, each in enumerate(inner, 1):
                properties += _flat(each, f"{prefix}{name}.{number}.")
        else:
            properties.append((f"{prefix}{name}", inner))
    return properties


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
