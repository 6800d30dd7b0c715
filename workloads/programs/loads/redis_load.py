# SPDX-License-Identifier: GPL-2.0
"""Fill redis, or read from it. Runs in the guest.

``fill`` sets the keys in an order that scatters neighbours over memory, and ``load`` sends nine of ten
requests to a tenth of the keys, which moves slowly. ``fill_by_age`` sets them in order, as a store of
sessions grows, and ``load_newest`` only reads the last tenth.
"""

import random
import socket
import sys
import time

KEYS, HOT, VALUE, BATCH = 30_000, 3_000, b"x" * 1000, 100


def command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def send(stream: socket.socket, commands: list[bytes], reply: int) -> None:
    """Send all commands at once and read all their answers, ``reply`` bytes each."""
    stream.sendall(b"".join(commands))
    left = reply * len(commands)
    while left > 0:
        left -= len(stream.recv(1 << 16))


def key(number: int) -> bytes:
    return b"key:%08d" % number


def main() -> None:
    what, seed = sys.argv[1], int(sys.argv[2])
    draw = random.Random(seed)
    stream = socket.socket(socket.AF_UNIX)
    stream.connect("/tmp/redis.sock")
    if what.startswith("fill"):
        order = list(range(KEYS))
        if what == "fill":
            draw.shuffle(order)
        for at in range(0, KEYS, BATCH):
            send(stream, [command(b"SET", key(k), VALUE) for k in order[at : at + BATCH]], len(b"+OK\r\n"))
        return
    newest = what == "load_newest"
    first, share = (KEYS - HOT, BATCH) if newest else (0, BATCH * 9 // 10)
    while True:
        hot = [first + draw.randrange(HOT) for _ in range(share)]
        others = [draw.randrange(KEYS) for _ in range(BATCH - share)]
        requests = [command(b"GET", key(k % KEYS)) for k in hot + others]
        send(stream, requests, len(VALUE) + len(b"$1000\r\n\r\n"))
        first += 0 if newest else 1
        time.sleep(0.002)


main()
