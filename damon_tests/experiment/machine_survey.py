# SPDX-License-Identifier: GPL-2.0
"""Collect, as data, what this machine and its kernel can do for testing DAMON, without writing anything.

``commands.doctor`` renders it. The kernel's DAMON may be in use: the survey only reads its files, and
holds DAMON's lock no longer than it takes to find out who uses it.
"""

from __future__ import annotations

import errno
import gzip
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from damon_tests import __version__, bundle
from damon_tests.damon.capability import Capabilities, probe
from damon_tests.damon.client import DamonClient
from damon_tests.damon.tracefs import ROOTS, TracefsEvents
from damon_tests.damon.users import ADMIN, Usage, User
from damon_tests.kernel.guest import qemu
from damon_tests.kernel.host.machine import LocalMachine
from damon_tests.kernel.images import apt_sources
from damon_tests.kernel.images.arch import FLAVOURS, X86_64
from damon_tests.kernel.images.image import parse_config
from damon_tests.kernel.machine_tree import MachineTree
from damon_tests.ports import Machine, TreeError
from damon_tests.ports.lines import LineFormat

_MEMINFO = LineFormat("{name:S}: {kib:d} kB")

CONFIGS = (
    "CONFIG_DAMON",
    "CONFIG_DAMON_VADDR",
    "CONFIG_DAMON_PADDR",
    "CONFIG_DAMON_SYSFS",
    "CONFIG_DAMON_RECLAIM",
    "CONFIG_DAMON_LRU_SORT",
    "CONFIG_DAMON_STAT",
    "CONFIG_DAMON_DEBUG_SANITY",
    "CONFIG_IDLE_PAGE_TRACKING",
    "CONFIG_NUMA_EMU",
    "CONFIG_KUNIT",
    "CONFIG_MEMCG",
    "CONFIG_PSI",
    "CONFIG_ZRAM",
)
"""Kernel options that tests depend on."""

_NEEDED = ("CONFIG_DAMON", "CONFIG_DAMON_VADDR", "CONFIG_DAMON_PADDR", "CONFIG_DAMON_SYSFS")
_CAPABILITIES = {"cap_sys_admin": 21, "cap_sys_ptrace": 19, "cap_perfmon": 38, "cap_bpf": 39}
_ROOT_REMEDY = "run as root, or test in a VM (--kernel debian:newest), which needs no privileges"


@dataclass(frozen=True)
class Fact:
    """A fact about the machine. ``ok``: whether it is good for testing, None where it does not matter.

    ``remedy`` says how to get what is missing."""

    name: str
    value: str
    ok: bool | None = None
    remedy: str = ""


@dataclass(frozen=True)
class Section:
    title: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class DamonUse:
    """A user of DAMON: ``user`` has the kdamond's name and pid, ``what`` describes thread and request."""

    user: User
    what: str


@dataclass(frozen=True)
class Survey:
    """The facts by section. ``capabilities`` are those that a probe finds without staging anything. ``level``
    describes the nearest known kernel series in words."""

    sections: tuple[Section, ...]
    capabilities: Capabilities
    level: str
    uses: tuple[DamonUse, ...]
    usage: Usage

    def ok(self, title: str, name: str) -> bool:
        """Return whether the survey has this fact and it is good."""
        return any(f.ok for s in self.sections if s.title == title for f in s.facts if f.name == name)


Run = Callable[[Sequence[str]], str]
"""A function that runs a program and returns its output; empty when it cannot be run."""


def run_program(argv: Sequence[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout or done.stderr


def device_trouble(path: str) -> str:
    """Return why a device cannot be opened; empty when it can. Opening it has no side effect."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        return "not there" if error.errno == errno.ENOENT else (error.strerror or str(error))
    return ""


@dataclass(frozen=True)
class Host:
    """The host that the survey reads; tests replace it. ``which`` finds programs as shutil.which does."""

    machine: Machine = field(default_factory=LocalMachine)
    which: Callable[[str], str | None] = shutil.which
    run: Run = run_program
    release: str = field(default_factory=platform.release)
    euid: int = field(default_factory=os.geteuid)
    cache: Path = field(default_factory=bundle.cache_dir)
    etc_apt: Path = Path("/etc/apt")
    trouble: Callable[[str], str] = device_trouble

    def text(self, path: str) -> str | None:
        """Return a file's text, None when it cannot be read."""
        try:
            return self.machine.read_file(path).decode("utf-8", "replace")
        except OSError:
            return None


def collect(host: Host | None = None) -> Survey:
    """Collect everything; takes about a second, mostly to ask other programs for their versions."""
    host = host or Host()
    client = DamonClient(MachineTree(host.machine), host.machine.clock)
    usage = client.usage()
    events = TracefsEvents(host.machine)
    capabilities = probe(client, events, touch=False)
    uses = tuple(DamonUse(user, _describe(client, host, user)) for user in usage.users)
    sections = (
        Section("machine", _machine(host)),
        Section("kernel", _kernel(host)),
        Section("DAMON", _damon(usage, uses, capabilities)),
        Section("privileges", _privileges(host)),
        Section("tracing", _tracing(host, events)),
        Section("virtual machines", _virtual_machines(host)),
        Section("flavours of Debian's kernels", _flavours(host)),
        Section("reference as files (FUSE)", _fuse(host)),
        Section("tools", _tools(host)),
    )
    return Survey(sections, capabilities, _level(capabilities), uses, usage)


def _level(capabilities: Capabilities) -> str:
    """Describe the nearest kernel series; a kernel without DAMON has none."""
    if not any(capabilities.present.values()):
        return "unknown: this kernel shows no DAMON"
    return capabilities.describe_level()


# --- the parts -------------------------------------------------------------------------------


def _machine(host: Host) -> tuple[Fact, ...]:
    memory = host.text("/proc/meminfo") or ""
    kib = {line["name"]: line["kib"] for line in _MEMINFO.each(memory)}
    cpus = len(re.findall(r"^processor\s*:", host.text("/proc/cpuinfo") or "", re.MULTILINE))
    system = re.search(r'^PRETTY_NAME="?([^"\n]+)', host.text("/etc/os-release") or "", re.MULTILINE)
    available = kib.get("MemAvailable", 0) << 10
    shm = _free_bytes("/dev/shm")
    return (
        Fact("damon-tests", f"{__version__}, Python {platform.python_version()}"),
        Fact("system", f"{system[1] if system else 'unknown'}, {platform.machine()}"),
        Fact("CPUs", str(cpus or "unknown")),
        Fact(
            "memory available",
            f"{available / 2**30:.1f} of {kib.get('MemTotal', 0) / 2**20:.1f} GiB",
            available >= 1 << 30,
            "a guest needs about 1 GiB",
        ),
        Fact(
            "room for snapshots in /dev/shm", f"{shm / 2**30:.1f} GiB", shm >= 1 << 30, "else they go to disk"
        ),
    )


def _kernel(host: Host) -> tuple[Fact, ...]:
    path, config = find_config(host)
    facts = [Fact("release", host.release)]
    if path is None:
        remedy = "nothing depends on it; CONFIG_IKCONFIG_PROC makes it visible"
        return (*facts, Fact("configuration", "not found", None, remedy))
    facts.append(Fact("configuration", path))
    for name in CONFIGS:
        value = config.get(name)
        ok = value is not None if name in _NEEDED else None
        facts.append(
            Fact(name, value or "not set", ok, f"build the kernel with {name}=y" if ok is False else "")
        )
    return tuple(facts)


def find_config(host: Host) -> tuple[str | None, Mapping[str, str]]:
    """Return the path and contents of the running kernel's configuration; (None, {}) if there is no file."""
    try:
        packed = host.machine.read_file("/proc/config.gz")
        return "/proc/config.gz", parse_config(gzip.decompress(packed).decode("utf-8", "replace"))
    except (OSError, EOFError):
        pass
    for path in (f"/boot/config-{host.release}", f"/usr/lib/modules/{host.release}/config"):
        text = host.text(path)
        if text is not None:
            return path, parse_config(text)
    return None, {}


def _damon(usage: Usage, uses: Sequence[DamonUse], capabilities: Capabilities) -> tuple[Fact, ...]:
    free = usage.nr_kdamonds == 0 and not usage.users
    operations = [name for name in ("vaddr", "fvaddr", "paddr") if capabilities.has(f"ops.{name}")]
    if usage.nr_kdamonds is None:
        tree = Fact("sysfs tree", "not readable here", False, f"{ADMIN} needs CONFIG_DAMON_SYSFS and root")
    else:
        tree = Fact("sysfs tree", ADMIN, True)
    facts = [
        tree,
        Fact("kernel series by features", _level(capabilities)),
        Fact("operations", " ".join(operations) or "unknown: nothing is staged"),
    ]
    if usage.nr_kdamonds is not None:
        remedy = "kdamonds of others are never touched: wait, or test in a VM (--kernel debian:newest)"
        value = "free" if free else f"in use: nr_kdamonds {usage.nr_kdamonds}"
        facts.append(Fact("free for tests", value, free, "" if free else remedy))
    facts += [Fact(f"used by {use.user.name}", use.what) for use in uses]
    return tuple(facts)


def _describe(client: DamonClient, host: Host, user: User) -> str:
    """Describe a running kdamond: its thread, operations sets and scheme actions."""
    thread = (host.text(f"/proc/{user.pid}/comm") or "").strip() if user.pid else ""
    text = f"thread {thread or 'unknown'}" + (f" (pid {user.pid})" if user.pid else "")
    if user.kind == "module":
        return f"{text}, the kernel module"
    base = f"{client.root}/{user.name}/contexts/0"
    paths = [f"{base}/operations", f"{base}/targets/nr_targets", f"{base}/schemes/nr_schemes"]
    answers = client.tree.read_batch(paths)
    words = ["?" if isinstance(answer, TreeError) else answer.strip() for answer in answers]
    return f"{text}, {words[0]}, targets: {words[1]}, schemes: {words[2]}"


def _privileges(host: Host) -> tuple[Fact, ...]:
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)", host.text("/proc/self/status") or "", re.MULTILINE)
    bits = int(effective[1], 16) if effective else 0
    held = [name for name, bit in _CAPABILITIES.items() if bits >> bit & 1]
    namespaces = (host.text("/proc/sys/user/max_user_namespaces") or "0").strip()
    return (
        Fact("root", "yes" if host.euid == 0 else f"no (uid {host.euid})", host.euid == 0, _ROOT_REMEDY),
        Fact("capabilities", " ".join(held) or "none of " + " ".join(_CAPABILITIES)),
        Fact("user namespaces", "yes" if namespaces not in ("", "0") else "no"),
    )


def _tracing(host: Host, events: TracefsEvents) -> tuple[Fact, ...]:
    names = sorted(events.available())
    mounted = [root for root in ROOTS if host.text(f"{root}/trace_clock") is not None]
    perf = host.which("perf")
    version = host.run([perf, "--version"]).strip() if perf else ""
    return (
        Fact(
            "tracefs",
            mounted[0] if mounted else "not mounted or not readable",
            bool(mounted),
            "mount -t tracefs tracefs /sys/kernel/tracing (as root)",
        ),
        Fact(
            "DAMON tracepoints",
            " ".join(names) or "none to be seen",
            bool(names),
            "mount tracefs and look again as root; if none show then, the kernel lacks CONFIG_DAMON or"
            " CONFIG_EVENT_TRACING",
        ),
        Fact(
            "perf",
            version or (perf and "does not run") or "not installed",
            bool(version),
            "install perf (Debian: apt-get install linux-perf); only damo record needs it",
        ),
    )


def _virtual_machines(host: Host) -> tuple[Fact, ...]:
    on_path = host.which(X86_64.qemu_binary)
    match = re.search(r"version (\d+(?:\.\d+)+)", host.run([on_path, "--version"])) if on_path else None
    version = match[1] if match else None
    good = bool(version and qemu.is_new_enough(version))
    cached = sorted(path.parent.name for path in host.cache.glob("qemu/*/qemu.json"))
    mirror = apt_sources.debian_mirror(etc=host.etc_apt)
    fetchable = mirror is not None and host.which("apt-get") is not None
    if good:
        value = f"{version} ({on_path})"
    elif cached:
        newest = re.search(r"\d+\.\d+\.\d+", cached[-1])
        value = f"{newest[0] if newest else cached[-1]}, unpacked from packages earlier"
    else:
        value = f"{version} is too old (10 is needed)" if version else "not on PATH"
        value += ", fetched at first use" if fetchable else ""
    images = sorted({path.name.rpartition("_")[0] for path in host.cache.glob("images/*_*")})
    return (
        Fact(
            "QEMU", value, good or bool(cached) or fetchable, "install QEMU 10 or newer (qemu-system-x86_64)"
        ),
        Fact("KVM", *_kvm(host)),
        Fact("kernels kept", " ".join(images) or "none yet"),
        Fact(
            "package mirror",
            mirror.uri if mirror else "no Debian source in apt's configuration",
            fetchable,
            "without apt, give a kernel image's path (--kernel PATH)",
        ),
    )


def _flavours(host: Host) -> tuple[Fact, ...]:
    """Return for each flavour what its guests have, and whether their programs can be built here."""
    facts = []
    for flavour in FLAVOURS.values():
        arch = flavour.arch
        name = f"debian:SERIES@{flavour.name}" if flavour.name else "debian:SERIES"
        native = arch.name == platform.machine()
        compiler = (os.environ.get("CC", "cc") if native else arch.compiler).split()[0]
        built = bundle.programs_dir() / ("" if native else arch.name) / "damon-tests-agent"
        able = host.which(compiler) is not None or built.exists()
        value = f"{arch.name}, pages of {flavour.page_bytes >> 10} KiB; {arch.qemu_binary}, "
        packages = "gcc libc6-dev" if native else arch.compiler_packages
        value += compiler if able else f"no {compiler} to build its agent: apt-get install make {packages}"
        facts.append(Fact(name, value, able or None))
    return tuple(facts)


def _kvm(host: Host) -> tuple[str, bool | None, str]:
    wrong = host.trouble("/dev/kvm")
    if wrong:
        return f"/dev/kvm: {wrong}", None, "guests run under emulation, several times slower"
    trials = host.cache / "kvm.json"
    try:
        tried = re.findall(r'"[^"]*": "([^"]*)"', trials.read_text())
    except OSError:
        return "/dev/kvm may be opened; whether it boots a kernel is tried at first use", None, ""
    if tried and tried[-1]:
        return tried[-1], None, "guests run under emulation, several times slower"
    return "boots guests", True, ""


def _fuse(host: Host) -> tuple[Fact, ...]:
    wrong = host.trouble("/dev/fuse")
    helper = host.which("fusermount3") or host.which("fusermount")
    able = not wrong and (host.euid == 0 or helper is not None)
    remedy = "load the fuse module; without root also install fuse3"
    return (
        Fact("/dev/fuse", wrong or "may be opened", able, remedy),
        Fact("fusermount", helper or "not installed", None),
    )


def _tools(host: Host) -> tuple[Fact, ...]:
    compiler = host.which(os.environ.get("CC", "cc").split()[0])
    first = (host.run([compiler, "--version"]).splitlines() or [""])[0] if compiler else ""
    static = host.run([compiler, "-print-file-name=libc.a"]).strip() if compiler else ""
    programs = bundle.programs_dir()
    built = sorted(path.name for path in programs.glob("damon-tests-*")) if programs.is_dir() else []
    remedy = "install gcc, make and a static libc (Debian: gcc make libc6-dev)"
    able = bool(compiler and host.which("make") and "/" in static)
    return (
        Fact("C compiler", first or "none", able or bool(built), remedy),
        Fact("make", host.which("make") or "not installed", None),
        Fact("C programs", " ".join(built) or "not built yet", bool(built) or able, remedy),
        _kernel_builds(host),
    )


def _kernel_builds(host: Host) -> Fact:
    """Return whether ``damon-tests build`` finds its tools; libelf's headers show when it runs."""
    missing = [tool for tool in ("gcc", "make", "flex", "bison", "bc", "perl") if not host.which(tool)]
    value = f"not without {' '.join(missing)}" if missing else "possible"
    value += ", with ccache" if not missing and host.which("ccache") else ""
    return Fact("kernel builds", value, None, f"apt-get install {' '.join([*missing, 'libelf-dev'])}")


def _free_bytes(path: str) -> int:
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return 0
