# SPDX-License-Identifier: GPL-2.0
"""Fill memcached, or read from it: few keys often, most rarely. Runs in the guest."""

import random
import socket
import sys
import time

KEYS, VALUE, BATCH, SKEW = 30_000, b"x" * 1000, 50, 4.0


def read_until(stream: socket.socket, word: bytes, times: int) -> None:
    """Read until a word has come so often."""
    seen, rest = 0, b""
    while seen < times:
        data = rest + stream.recv(1 << 16)
        seen += data.count(word)
        rest = data[-len(word) + 1 :]


def main() -> None:
    what, seed = sys.argv[1], int(sys.argv[2])
    draw = random.Random(seed)
    stream = socket.socket(socket.AF_UNIX)
    stream.connect("/tmp/memcached.sock")
    if what == "fill":
        order = list(range(KEYS))
        draw.shuffle(order)
        for at in range(0, KEYS, BATCH):
            part = order[at : at + BATCH]
            sets = (b"set key:%08d 0 0 %d\r\n%s\r\n" % (k, len(VALUE), VALUE) for k in part)
            stream.sendall(b"".join(sets))
            read_until(stream, b"STORED", len(part))
        return
    while True:
        keys = [int(KEYS * draw.random() ** SKEW) for _ in range(BATCH)]
        stream.sendall(b"".join(b"get key:%08d\r\n" % k for k in keys))
        read_until(stream, b"END\r\n", BATCH)
        time.sleep(0.002)


main()
