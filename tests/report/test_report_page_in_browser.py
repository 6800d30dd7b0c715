# SPDX-License-Identifier: GPL-2.0
"""The HTML page in a real browser: no script error, no overflow on a phone, accessible (axe-core)."""

from __future__ import annotations

import functools
import http.server
import json
import re
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sample_run

from damon_tests import bundle
from damon_tests.judge.verdict import Check, Measurement, Verdict
from damon_tests.report import model
from damon_tests.report.events import RunLog

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SIZES = {"phone": 360, "tablet": 800, "desktop": 1280}
AXE = "axe-core@4.14.1"

# Loads the page at a width in a frame of the same origin, does what DO says, and prints the answer.
LOOKER = """<!doctype html><title>looker</title><body style="margin:0">
<iframe id="frame" src="page.html%(fragment)s" style="border:0;width:%(width)dpx;height:800px"></iframe>
<pre id="answer"></pre>
<script>
const frame = document.getElementById("frame");
frame.addEventListener("load", async () => {
  const page = frame.contentWindow, document_ = page.document;
  const all = selector => [...document_.querySelectorAll(selector)];
  let answer;
  try { answer = await (async () => { %(do)s })(); } catch (error) { answer = "" + error; }
  document.getElementById("answer").textContent = JSON.stringify(answer);
});
</script>"""

OVERFLOW = """
const wide = all("body *").filter(e => !e.closest("pre, .scroll")
  && e.getBoundingClientRect().right > page.innerWidth + 1 && getComputedStyle(e).position !== "absolute");
const root = document_.documentElement;
return { page: root.scrollWidth - root.clientWidth, wide: wide.map(e => e.outerHTML.slice(0, 200)) };
"""
FILTERS = """
const shown = () => all("details.test:not([hidden])").map(e => e.dataset.verdict);
const press = e => e.dispatchEvent(new page.MouseEvent("click", { bubbles: true }));
const type = (id, value, kind) => {
  document_.getElementById(id).value = value;
  document_.getElementById(id).dispatchEvent(new page.Event(kind));
};
const answer = { all: shown().length };
press(document_.querySelector('.count[data-verdict="SKIP"]'));
answer.skip = shown();
press(document_.querySelector('.count[data-verdict="SKIP"]'));
type("words", "hot set boundary", "input");
answer.words = shown();
type("words", "", "input");
type("area", "monitoring", "change");
answer.area = shown().length;
type("order", "time", "change");
answer.longest = all("details.test")[0].dataset.id;
press(all(".matrix button").find(e => e.textContent.startsWith("FAIL")));
answer.matrix = shown();
return answer;
"""
PERMALINK = 'return all("details.test[open]").map(e => e.id).includes(page.location.hash.slice(1));'
ACCESSIBLE = """
await new Promise(done => {
  const script = document_.createElement("script");
  script.src = "axe.min.js";
  script.onload = done;
  document_.head.append(script);
});
for (const e of all("details")) e.open = true;
const found = await page.axe.run(document_);
const nodes = v => v.nodes.map(n => n.html.slice(0, 160)).slice(0, 3).join(" | ");
return found.violations.map(v => `${v.id}: ${nodes(v)}`);
"""


@pytest.fixture(scope="module")
def browser() -> str:
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no browser: install Debian's package chromium")
    return browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A directory with the page of a run that has every verdict, served on a port of this machine."""
    pytest.importorskip("jinja2")
    from damon_tests.report import html

    directory = tmp_path_factory.mktemp("site")
    sample_run.write(directory / "run", finish=False)
    with RunLog(directory / "run") as log:
        test = "suites/schemes/test_quotas.py::test_whose_name_is_so_long_that_no_phone_shows_it[1-x]"
        log.test_started(test, "reference:7.3", "7.3")
        band = Measurement("boundary error of the hottest regions", 12345678, "bytes", (12345678.0, 1e7))
        limit = "not above the reference's 9000000 to 14000000 bytes"
        log.check(test, Check("oracle band", band, limit, "rank among 200 replicas", True, "p = 0.4", 0.001))
        log.test_finished(test, "reference:7.3", "7.3", Verdict.PASS, "1 checks hold", 700.0)
        log.run_finished()
    html.save(model.load(directory / "run"), directory / "run", directory / "page.html")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Requests are not worth a line."""

        def end_headers(self) -> None:
            # looker.html is rewritten for each look, often within the second that Last-Modified counts in:
            # a browser that asks "modified since?" would be shown the script before.
            self.send_header("Cache-Control", "no-store")
            super().end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=directory))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield directory, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def look(browser: str, site: tuple[Path, str], do: str, width: int = 1280, fragment: str = "") -> Any:
    """What the script ``do`` returns about the page; console errors fail the test."""
    directory, url = site
    text = LOOKER % {"width": width, "do": do, "fragment": fragment}
    (directory / "looker.html").write_text(text)
    profile = directory / "profile"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    command += [f"--user-data-dir={profile}", f"--window-size={max(600, width)},900"]
    command += ["--virtual-time-budget=30000", "--dump-dom", f"{url}/looker.html"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert not re.findall(r".*CONSOLE.*", done.stderr)
    answer = re.search(r'<pre id="answer">(.*?)</pre>', done.stdout, re.DOTALL)
    assert answer is not None, done.stdout[-2000:] + done.stderr[-2000:]
    unescaped = answer[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return json.loads(unescaped or "null")


@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_wider_than_the_screen(browser: str, site: tuple[Path, str], size: str) -> None:
    assert look(browser, site, OVERFLOW, SIZES[size]) == {"page": 0, "wide": []}


def test_filters_narrow_the_list_down(browser: str, site: tuple[Path, str]) -> None:
    answer = look(browser, site, FILTERS)
    assert answer["all"] == 10
    assert answer["skip"] == ["SKIP"] * 3
    assert answer["words"] == ["FAIL"]
    assert answer["area"] == 9
    assert answer["longest"].startswith("suites/schemes/test_quotas.py::")
    assert answer["matrix"] == ["FAIL", "PASS"]


def test_permalink_opens_its_test(browser: str, site: tuple[Path, str]) -> None:
    page = (site[0] / "page.html").read_text()
    (anchor,) = re.findall(r'<details class="test" id="(suites-schemes-[^"]+)"', page)
    assert look(browser, site, PERMALINK, fragment=f"#{anchor}") is True


def test_axe_finds_no_violation(browser: str, site: tuple[Path, str]) -> None:
    """The rules of axe-core: names, roles, contrast, headings, keyboard."""
    shutil.copy(_axe(), site[0] / "axe.min.js")
    assert look(browser, site, ACCESSIBLE) == []


def _axe() -> Path:
    """axe-core from npm, kept in the cache."""
    directory = bundle.cache_dir() / "npm" / AXE
    if not (directory / "axe.min.js").exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("axe-core is not in the cache, and there is no npm to fetch it with")
        directory.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [npm, "pack", AXE, f"--pack-destination={directory}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode:
            pytest.skip(f"axe-core cannot be fetched from npm: {done.stderr.strip().splitlines()[-1:]}")
        with tarfile.open(next(directory.glob("*.tgz"))) as archive:
            member = archive.extractfile("package/axe.min.js")
            assert member is not None
            (directory / "axe.min.js").write_bytes(member.read())
    return directory / "axe.min.js"
