# SPDX-License-Identifier: GPL-2.0
"""This machine's kernel log: only new messages, and only those about DAMON."""

from __future__ import annotations

from pathlib import Path

import pytest

from damon_tests.experiment.machine_backend import HostBackend
from damon_tests.kernel.host.kernel_log import OwnLog
from damon_tests.kernel.host.machine import LocalMachine
from damon_tests.kernel.images.programs import program
from damon_tests.kernel.splat import parse_splats
from damon_tests.ports import NotSupported

OURS = """\
4,900,7000000,-;------------[ cut here ]------------
4,901,7000010,-;WARNING: mm/damon/core.c:2111 at damon_merge_two_regions+0x50/0x60, CPU#1: kdamond.0/77
4,902,7000020,-;Modules linked in:
4,903,7000030,-;CPU: 1 UID: 0 PID: 77 Comm: kdamond.0 Not tainted 7.3.4 #1
4,904,7000040,-;Call Trace:
4,905,7000050,-; <TASK>
4,906,7000060,-; kthread+0xf2/0x120
4,907,7000070,-; </TASK>
4,908,7000080,-;---[ end trace 0000000000000000 ]---
"""
OTHERS = """\
4,910,8000000,-;BUG: soft lockup - CPU#0 stuck for 22s! [nginx:812]
4,911,8000010,-;Call Trace:
4,912,8000020,-; <TASK>
4,913,8000030,-; do_idle+0x1/0x2
4,914,8000040,-; </TASK>
6,915,8000100,-;usb 1-1: new device
 SUBSYSTEM=usb
6,916,8000200,-;damon: a\\x09message
"""


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_only_reports_about_damon_are_kept(tmp_path: Path) -> None:
    kmsg = tmp_path / "kmsg"
    add(kmsg, OURS)
    log = OwnLog(str(kmsg))
    assert log.text() == "", "before it began"
    add(kmsg, OTHERS[:60])
    assert log.text() == ""
    add(kmsg, OTHERS[60:] + OURS)
    for _ in range(2):
        (splat,) = parse_splats(log.text())
        assert splat.kind == "WARNING"
        assert "damon_merge_two_regions" in splat.title
        assert "nginx" not in log.text()
        assert "usb" not in log.text()
        assert "[    8.000200] damon: a\tmessage\n" in log.text()
    log.close()


def test_unreadable_log_is_empty(tmp_path: Path) -> None:
    log = OwnLog(str(tmp_path / "none"))
    assert not log.readable
    assert log.text() == ""


def test_host_backend_reports_complaints_of_its_kernel(tmp_path: Path) -> None:
    try:
        program("damon-tests-engine")
    except NotSupported as missing:
        pytest.skip(str(missing))
    kmsg = tmp_path / "kmsg"
    add(kmsg, OURS)
    backend = HostBackend(LocalMachine(root=tmp_path), tmp_path, level="7.3", kmsg=str(kmsg))
    subject = backend.subject(1)
    assert subject.splats() == []
    add(kmsg, OTHERS)
    assert subject.splats() == []
    add(kmsg, OURS)
    (title,) = subject.splats()
    assert title.startswith("WARNING: WARNING: mm/damon/core.c:2111")
    subject.close()
    assert backend.subject(2).splats() == [], "another subject's"
