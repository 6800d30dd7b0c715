# SPDX-License-Identifier: GPL-2.0
"""Write 48 MiB of text that compresses somewhat, the same for the same seed. Runs in the guest."""

import random
import sys

SIZE, WORDS = 48 << 20, 20_000


def main() -> None:
    draw = random.Random(int(sys.argv[1]))
    words = [
        bytes(draw.choices(b"abcdefghijklmnopqrstuvwxyz", k=draw.randrange(2, 12))) for _ in range(WORDS)
    ]
    written = 0
    with open(sys.argv[2], "wb") as file:
        while written < SIZE:
            written += file.write(b" ".join(draw.choices(words, k=4096)) + b"\n")


main()
