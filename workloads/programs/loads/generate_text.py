# SPDX-License-Identifier: GPL-2.0
"""Write 32 MiB of text that compresses somewhat, the same for the same seed. Runs in the guest.

Its lines are drawn from a pool of 12 MiB, more than xz -6 remembers.
"""

import random
import sys

SIZE, POOL, WORDS, WORDS_IN_LINE = 32 << 20, 3000, 20_000, 512


def main() -> None:
    draw = random.Random(int(sys.argv[1]))
    letters = b"abcdefghijklmnopqrstuvwxyz"
    words = [bytes(draw.choices(letters, k=draw.randrange(2, 12))) for _ in range(WORDS)]
    lines = [b" ".join(draw.choices(words, k=WORDS_IN_LINE)) + b"\n" for _ in range(POOL)]
    written = 0
    with open(sys.argv[2], "wb") as file:
        while written < SIZE:
            written += file.write(draw.choice(lines))


main()
