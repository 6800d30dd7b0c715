# SPDX-License-Identifier: GPL-2.0
"""The shape of the repository: what is where, who may import whom, and what every file carries."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

TOP_LEVEL = {
    "CONTRIBUTING.md",
    "FINDINGS.md",
    "LICENSE",
    "README.md",
    "ci",
    "damon_tests",
    "kselftest_compat",
    "pyproject.toml",
    "suites",
    "tests",
    "workloads",
    # What hosted CI and tools look for in the top directory only.
    ".ci",
    ".clang-format",
    ".editorconfig",
    ".github",
    ".gitignore",
    ".gitlab-ci.yml",
    ".shellcheckrc",
}

# Each may import from its own line and from those below it.
LAYERS = (
    (
        "__main__",
        "arguments",
        "cli",
        "plugin",
        "pytest_items",
        "pytest_options",
        "pytest_results",
        "pytest_run",
        "pytest_skips",
    ),
    ("commands",),
    ("report",),
    ("scenario",),
    ("judge",),
    ("experiment",),
    ("workload",),
    ("kernel",),
    ("reference",),
    ("damon",),
    ("patterns",),
    ("ports",),
    ("bundle",),
)
LAYER = {name: height for height, names in enumerate(reversed(LAYERS)) for name in names}

# The same within a package. Modules outside all wings are on the line "", or above them where there is none.
WINGS = {
    "reference": (
        ("serve",),
        ("live",),
        ("sysfs",),
        ("core",),
        ("machine",),
        ("faults",),
        ("rules",),
    ),
    "judge": (("modules",), ("schemes",), ("monitoring",), ("cost",), ("",)),
    "kernel": (("host",), ("guest",), ("build",), ("images",), ("agent",), ("",)),
}

MAX_LINES = 450


def tracked() -> list[Path]:
    """The files of the repository, relative to it; a copy without git has no list of them."""
    try:
        listed = subprocess.run(
            ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout: which files belong to the project is not known")
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]


def python_files() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py"]


def read(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def imported_modules(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything that a module of ``package`` imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # One dot is the package itself, each further one its parent.
            parent = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            # "from damon_tests import bundle" names the module only in its list.
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def upward_imports(source: str, path: Path) -> list[str]:
    """The imports of a module (``damon_tests/…/name.py``) that break the rule of LAYERS."""
    own = path.with_suffix("").parts[1]
    imports = []
    for line, name in imported_modules(ast.parse(source), ".".join(path.parent.parts)):
        parts = name.split(".")
        if parts[0] != "damon_tests" or parts[1:] in ([], ["__version__"], ["BEGAN_S"]):
            continue
        if parts[1] not in LAYER:
            imports.append(f"{path}:{line}: {name} is no package of LAYERS")
        elif LAYER[parts[1]] > LAYER[own]:
            imports.append(f"{path}:{line}: {own} is below {parts[1]}")
        elif parts[1] == own and own in WINGS:
            below, above = wing(own, path.parts[2]), wing(own, parts[2] if len(parts) > 2 else "")
            if above > below:
                imports.append(f"{path}:{line}: {path.parts[2]} is below {name}")
    return imports


def wing(package: str, name: str) -> int:
    """Height of a wing in its package, counted from the lowest; of the root's own modules where no wing has
    that name."""
    names = [wing for line in reversed(WINGS[package]) for wing in line]
    return names.index(name) if name in names else names.index("") if "" in names else len(names)


def test_top_level_is_fixed() -> None:
    """A new file or directory at the top is a decision, not an accident."""
    assert {path.parts[0] for path in tracked()} <= TOP_LEVEL


def test_imports_point_down() -> None:
    """damon_tests is a stack: no package knows those above it."""
    wrong = []
    for path in python_files():
        if path.parts[0] != "damon_tests" or path == Path("damon_tests/__init__.py"):
            continue
        if path.with_suffix("").parts[1] not in LAYER:
            wrong.append(f"{path}: is no package of LAYERS")
        else:
            wrong += upward_imports(read(path), path)
    assert wrong == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("damon/client.py", "from damon_tests.judge import metrics"),
        ("damon/client.py", "from damon_tests import report"),
        ("damon/client.py", "import damon_tests.kernel.guest.guest as g"),
        ("damon/client.py", "def f():\n    from ..experiment.backend import Backend"),
        ("damon/client.py", "from damon_tests.elsewhere import thing"),
        ("bundle.py", "from damon_tests.ports import Tree"),
        ("bundle.py", "from .ports import Tree"),
        ("kernel/qemu.py", "from damon_tests.workload.engine import Engine"),
        ("report/__init__.py", "from .. import cli"),
        ("reference/rules/schemes.py", "from damon_tests.reference.core.regions import Regions"),
        ("judge/verdict.py", "from damon_tests.judge.monitoring import metrics"),
        ("kernel/agent/link.py", "from damon_tests.kernel.guest.qmp import Qmp"),
    ],
)
def test_upward_imports_are_seen(path: str, source: str) -> None:
    assert len(upward_imports(source, Path("damon_tests", path))) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("judge/metrics.py", "from damon_tests.damon.records import Recording"),
        ("judge/metrics.py", "from .verdict import Verdict\nfrom ..ports import errors"),
        ("plugin.py", "from damon_tests import __version__, bundle, cli"),
        ("reference/core/split.py", "from damon_tests.reference.rules import monitoring"),
        ("ports/tree.py", "import os\nfrom collections.abc import Iterator"),
    ],
)
def test_downward_imports_are_fine(path: str, source: str) -> None:
    assert upward_imports(source, Path("damon_tests", path)) == []


# What judge may import of packages that can run a DAMON: data, and pure functions of it.
PURE = {
    "damon": {
        "expected_features",
        "kernel_config",
        "known_defects",
        "module_params",
        "params",
        "recording_file",
        "records",
        "series",
        "trace",
    },
    "experiment": {"observation", "physical_view", "sampling_steps"},
    "kernel": {"splat"},
    "reference": {"rules", "sysfs.module_requests"},
    "workload": {"memory_info", "pages", "pattern_truth", "maybe_touched"},
}


def impure_imports(source: str, path: Path) -> list[str]:
    """The imports of a module of judge that can run a DAMON, or a process."""
    impure = []
    for line, name in imported_modules(ast.parse(source), ".".join(path.parent.parts)):
        package, _, module = name.removeprefix("damon_tests.").partition(".")
        allowed = PURE.get(package)
        if allowed is not None and not any(f"{module}.".startswith(f"{pure}.") for pure in allowed):
            impure.append(f"{path}:{line}: judge is pure, and {name} may run DAMON")
    return impure


def test_judge_is_pure() -> None:
    """Judging is a function of truth and observation: what runs DAMON is in scenario, above it."""
    wrong = []
    for path in python_files():
        if path.parts[:2] == ("damon_tests", "judge"):
            wrong += impure_imports(read(path), path)
    assert wrong == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("from damon_tests.experiment.trial import Trial", 1),
        ("from damon_tests.experiment import replica", 1),
        ("from damon_tests.damon.client import DamonClient", 1),
        ("from damon_tests.reference.sysfs.system import ReferenceSystem", 1),
        ("from damon_tests.experiment.observation import Observation", 0),
        ("from damon_tests.reference.rules.levels import LEVELS", 0),
    ],
)
def test_imports_that_run_damon_are_seen(source: str, count: int) -> None:
    assert len(impure_imports(source, Path("damon_tests/judge/quotas.py"))) == count


def test_modules_are_short() -> None:
    """A module about one thing has room in 450 lines."""
    long = {str(path): count for path in python_files() if (count := read(path).count("\n")) > MAX_LINES}
    assert long == {}


def is_code(path: Path) -> bool:
    if path.suffix in {".py", ".c", ".h", ".sh"} or path.name == "Makefile":
        return True
    with open(ROOT / path, "rb") as file:
        return file.read(2) == b"#!"


def test_code_names_its_licence() -> None:
    """The kernel's convention: the identifier is in the first line, or the second after #!."""
    without = [
        str(path)
        for path in tracked()
        if is_code(path)
        and not any("SPDX-License-Identifier: GPL-2.0" in x for x in read(path).split("\n")[:2])
    ]
    assert without == []


def test_python_modules_have_docstrings() -> None:
    assert [str(path) for path in python_files() if not ast.get_docstring(ast.parse(read(path)))] == []


def test_test_files_have_names_of_their_own() -> None:
    """pytest imports them by basename here: two of one name, or a package among them, would clash."""
    tests = [path for path in python_files() if path.parts[0] in {"tests", "suites"}]
    names = Counter(path.name for path in tests if path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []
    assert [str(path) for path in tests if path.name == "__init__.py"] == []


def test_pytest_plugin_is_forced_on_nobody() -> None:
    """An entry point would load it into the pytest of every project of the environment."""
    assert "pytest11" not in read(Path("pyproject.toml"))


MACHINE_PATH = re.compile(r"(?:^|[^A-Za-z0-9_.])/(?:work|farm)/")
SOURCES = ("/etc/apt/sources.list", "/etc/apt/sources.list.d", "/etc/pip.conf", "~/.pip/pip.conf", "~/.npmrc")


def mirror_hosts() -> set[str]:
    """The hosts that this machine gets its packages from, as its own configuration names them."""
    hosts: set[str] = set()
    for name in (*SOURCES, "~/.config/pip/pip.conf"):
        path = Path(name).expanduser()
        files = [path] if path.is_file() else path.glob("*") if path.is_dir() else []
        for file in files:
            try:
                text = file.read_text(encoding="utf-8", errors="replace")
            except OSError:  # not readable for this user, so it cannot have been copied from either
                continue
            hosts |= {host.rpartition("@")[2] for host in re.findall(r"https?://([^/\s]+)", text)}
    return hosts


def test_nothing_is_tied_to_one_machine() -> None:
    """Mirrors and directories of the machine that something was written on do not belong in it."""
    hosts = mirror_hosts()
    tied = []
    for path in tracked():
        try:
            text = read(path)
        except UnicodeDecodeError:  # binary golden data
            continue
        tied += [f"{path}: {match.group().strip()}" for match in MACHINE_PATH.finditer(text)]
        tied += [f"{path}: {host}" for host in hosts if host in text]
    assert tied == []


def test_python_is_new_enough() -> None:
    """ci/bootstrap looks for the version that pyproject.toml asks for."""
    asked = re.search(r'requires-python = ">=([0-9.]+)"', read(Path("pyproject.toml")))
    looked_for = re.search(r'min_python="([0-9.]+)"', read(Path("ci/bootstrap")))
    assert asked is not None
    assert looked_for is not None
    assert asked[1] == looked_for[1]
    assert sys.version_info >= tuple(int(part) for part in asked[1].split("."))


FIXED_NAMES = (".ci", ".github")
"""Folders whose names and files hosted CI systems prescribe."""


def says_what_it_holds(folder: Path) -> bool:
    """Return whether a folder has a README, a package docstring that goes beyond a title, or a line of the
    README of a folder above."""
    if (ROOT / folder / "README.md").exists():
        return True
    package = ROOT / folder / "__init__.py"
    text = ast.get_docstring(ast.parse(package.read_text(encoding="utf-8"))) if package.exists() else None
    return (text is not None and "\n\n" in text) or any(
        line_about(folder.relative_to(above), ROOT / above / "README.md") for above in folder.parents
    )


def line_about(folder: Path, readme: Path) -> bool:
    """Return whether a README has a list item for a folder: "- `damon/abi/`: what is in it"."""
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    return re.search(rf"^- `{re.escape(folder.as_posix())}/`: \S", text, re.MULTILINE) is not None


def test_every_folder_says_what_it_holds() -> None:
    """A README, a package docstring or a line of the README above: what lives there, and where to begin."""
    folders = {folder for path in tracked() for folder in path.parents} - {Path(".")}
    silent = [
        str(folder)
        for folder in sorted(folders)
        if folder.parts[0] not in FIXED_NAMES and not says_what_it_holds(folder)
    ]
    assert silent == []


def test_package_docstrings_name_their_modules() -> None:
    """Who reads a package's docstring learns of every module and package in it."""
    unnamed = []
    for package in sorted((ROOT / "damon_tests").rglob("__init__.py")):
        text = ast.get_docstring(ast.parse(package.read_text(encoding="utf-8"))) or ""
        modules = {path.stem for path in package.parent.glob("*.py")} - {"__init__"}
        modules |= {path.parent.name for path in package.parent.glob("*/__init__.py")}
        unnamed += [
            f"{package.parent.relative_to(ROOT)}: {name}"
            for name in sorted(modules)
            if re.search(rf"\b{name}\b", text) is None
        ]
    assert unnamed == []


def test_lines_of_a_readme_are_about_folders_that_exist() -> None:
    """A folder that is renamed or removed takes its line along; what is built is in no list."""
    lines = [
        (readme, name)
        for readme in tracked()
        if readme.name == "README.md"
        for name in re.findall(r"^- `([\w/.-]+)/`: ", read(readme), re.MULTILINE)
    ]
    folders = {folder for path in tracked() for folder in path.parents}
    built = {Path("workloads/build")}
    assert [f"{r}: {name}/" for r, name in lines if r.parent / name not in folders | built] == []
    assert len(lines) >= 15
