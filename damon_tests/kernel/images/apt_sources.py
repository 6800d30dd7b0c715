# SPDX-License-Identifier: GPL-2.0
"""Read from this machine's apt sources which Debian mirror it uses.

Both formats of sources.list(5) work: one line per source, and deb822 stanzas.
Nothing is written; ``packages`` makes an apt configuration of our own from the result.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# Suites of Debian's own archive; derivatives use other names.
_DEBIAN_SUITES = frozenset(
    re.findall(
        r"\w+",
        "oldoldstable oldstable stable testing unstable experimental sid"
        " buster bullseye bookworm trixie forky duke",
    )
)


@dataclass(frozen=True)
class AptSource:
    """A source of binary packages: its URI, suites, and signing keys.

    ``signed_by`` holds absolute keyring paths; ``key_block`` an armoured key written into
    the source itself (deb822 allows that), else empty.
    """

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: tuple[str, ...] = ()
    key_block: str = ""

    @property
    def is_debian(self) -> bool:
        """Return whether this is a mirror of Debian's main archive (not security, not a derivative)."""
        bases = {suite.split("-")[0].split("/")[0] for suite in self.suites}
        security = any("security" in suite for suite in self.suites) or "security" in self.uri
        return bool(bases & _DEBIAN_SUITES) and "main" in self.components and not security


_ONE_LINE = re.compile(r"^deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<rest>\S.*)$")


def parse_one_line(text: str) -> list[AptSource]:
    """Return the ``deb`` lines of a ``sources.list``; skip comments and ``deb-src``."""
    sources = []
    for raw in text.splitlines():
        match = _ONE_LINE.match(raw.split("#")[0].strip())
        words = match["rest"].split() if match else []
        if match is None or len(words) < 2:
            continue
        options = dict(word.split("=", 1) for word in (match["options"] or "").split() if "=" in word)
        keys = tuple(key for key in options.get("signed-by", "").split(",") if key.startswith("/"))
        sources.append(AptSource(words[0], (words[1],), tuple(words[2:]), keys))
    return sources


def parse_deb822(text: str) -> list[AptSource]:
    """Return the enabled ``Types: deb`` stanzas of a ``.sources`` file."""
    sources = []
    for stanza in _stanzas(text):
        if "deb" not in stanza.get("types", "").split():
            continue
        if stanza.get("enabled", "yes").strip().lower() in ("no", "false", "0", "off", "without", "disable"):
            continue
        signed_by = stanza.get("signed-by", "")
        block = signed_by if "BEGIN PGP" in signed_by else ""
        keys = () if block else tuple(k for k in re.split(r"[\s,]+", signed_by) if k.startswith("/"))
        suites = tuple(stanza.get("suites", "").split())
        components = tuple(stanza.get("components", "").split())
        sources += [AptSource(uri, suites, components, keys, block) for uri in stanza.get("uris", "").split()]
    return sources


def _stanzas(text: str) -> Iterator[Mapping[str, str]]:
    """Yield deb822 paragraphs as {lower-case field: value}; " ." in a long value is an empty line."""
    for paragraph in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        last = ""
        for line in paragraph.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line[0] in " \t":
                fields[last] = fields.get(last, "") + "\n" + ("" if line.strip() == "." else line.strip())
            elif ":" in line:
                last, _, value = line.partition(":")
                last = last.strip().lower()
                fields[last] = value.strip()
        if fields:
            yield fields


def machine_sources(etc: Path = Path("/etc/apt")) -> list[AptSource]:
    """Return all enabled sources of binary packages of this machine's apt."""
    sources: list[AptSource] = []
    for path in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if path.suffix == ".sources":
            sources += parse_deb822(text)
        elif path.suffix == ".list":
            sources += parse_one_line(text)
    return sources


@dataclass(frozen=True)
class Mirror:
    """A mirror of Debian's archive and this machine's keys that may sign it.

    Different keys sign Debian's suites, so the machine's archive keyrings are added to those
    that the source names.
    """

    uri: str
    keyrings: tuple[str, ...]
    key_block: str = ""


def debian_mirror(
    sources: Iterable[AptSource] | None = None,
    etc: Path = Path("/etc/apt"),
    keyring_dir: Path = Path("/usr/share/keyrings"),
) -> Mirror | None:
    """Return the mirror of the machine's first Debian source, or None when it has none."""
    known = machine_sources(etc) if sources is None else sources
    source = next((s for s in known if s.is_debian and not s.uri.startswith("cdrom:")), None)
    if source is None:
        return None
    keyrings = list(source.signed_by)
    if not keyrings:  # apt then trusts the keys in /etc/apt
        parts = (etc / "trusted.gpg.d").glob("*")
        keyrings = [str(p) for p in sorted(parts) if p.suffix in (".gpg", ".asc", ".pgp")]
    archive = sorted(keyring_dir.glob("debian-archive-*.[gp][pg]?"))
    keyrings += [str(p) for p in archive if "removed" not in p.name and str(p) not in keyrings]
    return Mirror(source.uri.rstrip("/"), tuple(keyrings), source.key_block)
