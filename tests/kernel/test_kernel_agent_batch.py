# SPDX-License-Identifier: GPL-2.0
"""Any batch of file operations gives the results of a model of files, on both kinds of machine."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from damon_tests.ports import FileOp, Machine

NAMES = st.sampled_from(["a", "b", "c"])
OPS = st.one_of(
    st.builds(
        lambda n, d, o, c: ("write", n, d, o, c),
        NAMES,
        st.binary(max_size=50),
        st.integers(0, 60),
        st.booleans(),
    ),
    st.builds(lambda n, o, s: ("read", n, o, s), NAMES, st.integers(0, 60), st.integers(0, 60)),
    st.builds(lambda n: ("unlink", n), NAMES),
)


def _model(files: dict[str, bytearray], op: tuple[object, ...]) -> bytes | int:
    """Apply an operation to a model of flat files; return its result or errno."""
    kind, name = op[0], str(op[1])
    if kind == "write":
        _, _, data, offset, create = op
        assert isinstance(data, bytes)
        assert isinstance(offset, int)
        if name not in files and not create:
            return errno.ENOENT
        contents = files.setdefault(name, bytearray())
        if create and offset == 0:
            contents.clear()
        if data and len(contents) < offset:
            contents += bytes(offset - len(contents))
        contents[offset : offset + len(data)] = data
        return str(len(data)).encode()
    if name not in files:
        return errno.ENOENT
    if kind == "unlink":
        del files[name]
        return b""
    _, _, offset, size = op
    assert isinstance(offset, int)
    assert isinstance(size, int)
    return bytes(files[name][offset : offset + size if size else None])


def _file_op(directory: Path, op: tuple[object, ...]) -> FileOp:
    path = f"{directory}/{op[1]}"
    if op[0] == "write":
        return FileOp("write", path, op[2], offset=op[3], create=op[4])  # type: ignore[arg-type]
    if op[0] == "read":
        return FileOp("read", path, offset=op[2], size=op[3])  # type: ignore[arg-type]
    return FileOp("unlink", path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ops=st.lists(OPS, max_size=20))
def test_any_batch_matches_a_model_of_files(
    machine: Machine, tmp_path_factory: pytest.TempPathFactory, ops: list[tuple[object, ...]]
) -> None:
    directory = tmp_path_factory.mktemp("batch")
    files: dict[str, bytearray] = {}
    expected = [_model(files, op) for op in ops]
    results = machine.batch([_file_op(directory, op) for op in ops])
    assert [r.errno if isinstance(r, OSError) else r for r in results] == expected
