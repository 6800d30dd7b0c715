# SPDX-License-Identifier: GPL-2.0
"""Frames and payloads, from Python to Python and against the C header."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from damon_tests import bundle
from damon_tests.kernel.agent.wire import (
    HEADER_SIZE,
    KINDS,
    MAX_PAYLOAD,
    REPLY,
    VERSION,
    Frame,
    FrameReader,
    Op,
    PartialRead,
    ProtocolError,
    Reader,
    Writer,
    decode_batch,
    encode_batch,
    pack_frame,
)
from damon_tests.ports import Entry, FileOp

U32 = st.integers(0, 2**32 - 1)
I32 = st.integers(-(2**31), 2**31 - 1)
U64 = st.integers(0, 2**64 - 1)
FRAMES = st.builds(Frame, st.sampled_from(list(Op)), U32, st.binary(max_size=200), st.just(VERSION))
PATHS = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]))


def read_all(reader: FrameReader) -> list[Frame]:
    frames = []
    while frame := reader.next():
        frames.append(frame)
    return frames


def strict_reader() -> FrameReader:
    reader = FrameReader()
    reader.lenient = False
    return reader


@given(st.lists(FRAMES), st.lists(st.integers(1, 300)))
def test_frames_survive_any_cutting_of_the_stream(frames: list[Frame], cuts: list[int]) -> None:
    data = b"".join(pack_frame(frame.op, frame.id, frame.payload) for frame in frames)
    reader = strict_reader()
    got = []
    for cut in [*cuts, len(data)]:
        reader.feed(data[:cut])
        data = data[cut:]
        got += read_all(reader)
    assert got == frames


@given(st.binary(max_size=300), FRAMES)
def test_lenient_reader_skips_stray_bytes_before_the_hello(stray: bytes, after: Frame) -> None:
    """This includes bytes that begin like a frame: the header of a truncated frame may be whole."""
    hello = Frame(Op.HELLO | REPLY, 0, b"nonce and more")
    reader = FrameReader()
    reader.feed(
        stray + pack_frame(hello.op, 0, hello.payload) + pack_frame(after.op, after.id, after.payload)
    )
    assert hello in read_all(reader)


def test_a_hello_inside_a_frame_that_was_cut_off_is_found() -> None:
    reader = FrameReader()
    cut_off = pack_frame(Op.STREAM, 7, b"x" * 100_000)[:5000]
    reader.feed(cut_off + pack_frame(Op.HELLO | REPLY, 0, b"here"))
    assert read_all(reader) == [Frame(Op.HELLO | REPLY, 0, b"here")]


@pytest.mark.parametrize(
    "wrong",
    [
        b"x" * HEADER_SIZE,
        b"x" + pack_frame(Op.PING, 1),
        pack_frame(Op.PING, 1)[:-1] + b"\xff",
        pack_frame(Op.STREAM, 1, b"y" * (MAX_PAYLOAD + 1))[:HEADER_SIZE],
    ],
    ids=["garbage", "shifted", "checksum", "length"],
)
def test_strict_reader_refuses_stray_bytes(wrong: bytes) -> None:
    reader = strict_reader()
    reader.feed(wrong)
    with pytest.raises(ProtocolError, match="no frame"):
        reader.next()


@given(
    st.integers(0, 255), U32, st.integers(0, 2**64 - 1), st.integers(-(2**31), 2**31 - 1), st.binary(), PATHS
)
def test_payloads_read_back_as_written(u8: int, u32: int, u64: int, i32: int, blob: bytes, text: str) -> None:
    payload = Writer().u8(u8).u32(u32).u64(u64).i32(i32).blob(blob).text(text).done()
    reader = Reader(payload)
    assert (reader.u8(), reader.u32(), reader.u64(), reader.i32()) == (u8, u32, u64, i32)
    assert (reader.blob(), reader.text(), reader.rest()) == (blob, text, b"")


@given(st.binary(max_size=60))
def test_short_payload_is_a_protocol_error(data: bytes) -> None:
    ops = [FileOp("walk", "/a"), FileOp("read", "/b"), FileOp("write", "/c"), FileOp("stat", "/d")]
    try:
        results = decode_batch(ops, Reader(data))
    except ProtocolError:
        return
    assert len(results) == len(ops)


def test_names_that_are_no_utf8_survive() -> None:
    name = b"\xff\xfe".decode("utf-8", "surrogateescape")
    assert Reader(Writer().text(name).done()).text() == name


def test_path_with_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="null byte"):
        encode_batch([FileOp("read", "/etc\0/passwd")], False)


def _entries(entries: Sequence[tuple[str, int, bool]]) -> Writer:
    out = Writer().i32(0)
    for path, mode, is_dir in entries:
        out.u8(1).text(path).u32(mode).u8(is_dir).u8(0)
    return out.u8(0)


def test_entries_come_depth_first_and_sorted() -> None:
    """Entries sort by components: "a-b" comes after all of "a/…", though "-" sorts before "/"."""
    names = ["b", "a-b", "a/z", "a", "a/b/c", "a/b"]
    reply = _entries([(name, 0o755, True) for name in names]).done()
    (entries,) = decode_batch([FileOp("walk", "/sys")], Reader(reply))
    assert [entry.path for entry in entries] == ["a", "a/b", "a/b/c", "a/z", "a-b", "b"]


def test_a_failed_operation_is_an_oserror_in_its_place() -> None:
    reply = Writer().i32(2).i32(0).u8(0).blob(b"abc").done()
    results = decode_batch([FileOp("read", "/a"), FileOp("read", "/b")], Reader(reply))
    assert isinstance(results[0], FileNotFoundError)
    assert results[0].filename == "/a"
    assert results[1] == PartialRead(b"abc")


def test_stat_names_the_last_component() -> None:
    reply = _entries([("/sys/kernel/", 0o755, True)]).done()
    (result,) = decode_batch([FileOp("stat", "/sys/kernel/")], Reader(reply))
    assert result == [Entry("kernel", 0o755, True)]


def test_both_ends_agree_on_the_numbers() -> None:
    """Compare with agent_wire.h, the agent's definition of the protocol."""
    header = (bundle.root() / "workloads/src/agent_wire.h").read_text()
    in_c = {name: int(value) for name, value in re.findall(r"\bOP_(\w+) = (\d+)", header)}
    in_python = {op.name: op.value for op in Op}
    assert in_c == in_python | {"REPLY": 0}  # (of 0x8000)
    kinds = re.findall(r"\bFILE_(\w+) = (\d+)", header)
    assert [kind.lower() for kind, _ in kinds] == list(KINDS)
    assert [int(number) for _, number in kinds] == list(range(len(KINDS)))
    assert re.search(rf"#define WIRE_VERSION\s+{VERSION}\n", header)
    assert re.search(rf"#define WIRE_HEADER\s+{HEADER_SIZE}\n", header)
    assert re.search(rf"#define WIRE_MAX_PAYLOAD\s+\({MAX_PAYLOAD >> 20}u << 20\)", header)
