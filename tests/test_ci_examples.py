# SPDX-License-Identifier: GPL-2.0
"""ci/examples: each file is valid for its CI system, and the commands in it are commands of ours."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from damon_tests.arguments import parser
from damon_tests.kernel.images.packages import Archive, unpack
from damon_tests.ports import DamonTestsError

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "ci/examples"
INSTALL = "pip install 'damon-tests[ci]'"

YAMLLINT = """
extends: default
rules: {line-length: {max: 130}, document-start: disable, truthy: {check-keys: false}}
"""
# Stand for what a user of the LAVA job writes.
LAVA_VALUES = {
    "KERNEL_NAME": "linux-next",
    "KERNEL_URL": "https://example.org/bzImage",
    "ROOTFS_URL": "https://example.org/rootfs.img",
    "DAMON_TESTS_URL": "https://example.org/damon-tests.git",
}
# What LAVA's own modules validate with; run in a process of its own, which alone sees them.
LAVA_CHECK = """
import sys
import yaml
from voluptuous import Schema
from lava_common.schemas import validate
from lava_common.schemas.test.testdef import testdef
job, definition = (yaml.safe_load(open(path)) for path in sys.argv[1:])
validate(job, strict=True, extra_context_variables=[])
Schema(testdef())(definition)
"""


def tool(name: str) -> str:
    """Return the path of a CI system's own tool; skip without it."""
    beside = Path(sys.executable).parent / name
    path = str(beside) if beside.exists() else shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed: {INSTALL}")
    return path


def succeeds(command: Sequence[str | Path], cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "schema"), [("github.yml", "github-workflows"), ("gitlab.yml", "gitlab-ci")]
)
def test_workflow_is_valid(file: str, schema: str) -> None:
    check = tool("check-jsonschema")
    succeeds([check, "--builtin-schema", f"vendor.{schema}", EXAMPLES / file])


def test_invalid_workflow_is_noticed(tmp_path: Path) -> None:
    """The check can fail: a job without a machine is refused."""
    check = tool("check-jsonschema")
    text = (EXAMPLES / "github.yml").read_text().replace("runs-on: ubuntu-latest", "")
    (tmp_path / "github.yml").write_text(text)
    command = [check, "--builtin-schema", "vendor.github-workflows", str(tmp_path / "github.yml")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


def test_yaml_is_clean(tmp_path: Path) -> None:
    (tmp_path / "yamllint.yaml").write_text(YAMLLINT)
    succeeds([tool("yamllint"), "--strict", "-c", tmp_path / "yamllint.yaml", EXAMPLES])


def test_tmt_accepts_the_plan(tmp_path: Path) -> None:
    tmt = tool("tmt")
    (tmp_path / ".fmf").mkdir()
    (tmp_path / ".fmf/version").write_text("1\n")
    shutil.copy(EXAMPLES / "tmt.fmf", tmp_path / "main.fmf")
    assert "fail" not in succeeds([tmt, "lint"], tmp_path)
    assert "/damon" in succeeds([tmt, "plan", "ls"], tmp_path)


@pytest.mark.long
def test_lava_accepts_job_and_test_definition(tmp_path: Path) -> None:
    """LAVA validates jobs on the server; its schemas are in Debian's package lava-common."""
    pytest.importorskip("voluptuous", reason=f"voluptuous is not installed: {INSTALL}")
    try:
        archive = Archive("lava", ("bookworm",))
        packages = archive.packages(["lava-common"])
        unpack(archive.fetch(packages[:1]), tmp_path)
    except DamonTestsError as error:
        pytest.skip(f"Debian's package lava-common cannot be had: {error}")
    job = (EXAMPLES / "lava-job.yaml").read_text()
    for name, value in LAVA_VALUES.items():
        job = job.replace("{{ " + name + " }}", value)
    assert "{{" not in job.partition("\n")[2].partition("\n")[2]
    (tmp_path / "job.yaml").write_text(job)
    modules = str(tmp_path / "usr/lib/python3/dist-packages")
    done = subprocess.run(
        [sys.executable, "-c", LAVA_CHECK, str(tmp_path / "job.yaml"), str(EXAMPLES / "lava-test.yaml")],
        env={**os.environ, "PYTHONPATH": modules},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_lava_gets_each_test_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "results.ktap").write_text(
        "KTAP version 1\n1..4\n# FAIL: 3 regions\nnot ok 1 suites/a.py::test_x[1-2]\n"
        "ok 2 suites/a.py::test_y # SKIP no swap\nok 3 suites/a.py::test_z # XFAIL known\nok 4 b\n"
    )
    fake = tmp_path / "lava-test-case"
    fake.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/cases\n')
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = str(EXAMPLES / "lava-results")
    subprocess.run([script, str(tmp_path / "results.ktap")], env=environment, check=True)
    subprocess.run([script, str(tmp_path / "none.ktap")], env=environment, check=True)
    assert (tmp_path / "cases").read_text().splitlines() == [
        "suites_a.py__test_x_1-2_ --result fail",
        "suites_a.py__test_y --result skip",
        "suites_a.py__test_z --result pass",
        "b --result pass",
        "damon-tests --result fail",
    ]


def commands() -> list[str]:
    """Return every command line of ours in the examples, continued lines joined."""
    lines = []
    for path in sorted(EXAMPLES.iterdir()):
        text = re.sub(r"\\\n\s*", "", path.read_text())
        if path.suffix == ".yml":  # a folded scalar is one line
            text = re.sub(r"(?<=[^:|>])\n {6}(?=--|-e )", " ", text)
        lines += re.findall(r"\bdamon-tests ((?:run|report|gate) [^`\n]*)", text)
    return lines


def test_commands_of_the_examples_exist() -> None:
    lines = commands()
    assert len(lines) >= 6
    for line in lines:
        plain = re.sub(r"\$\{\{[^}]*\}\}", "1", line).partition(" || ")[0].replace("$PROFILE", "full")
        plain = plain.replace("$CI_NODE_INDEX/$CI_NODE_TOTAL", "1/3")
        parser().parse_args(shlex.split(plain))


def test_every_example_is_explained() -> None:
    text = (EXAMPLES / "README.md").read_text()
    files = {path.name for path in EXAMPLES.iterdir()} - {"README.md", "lava-results"}
    assert all(f"`{name}`" in text for name in files)
    assert yaml.safe_load((EXAMPLES / "lava-test.yaml").read_text())["metadata"]["name"] == "damon-tests"
