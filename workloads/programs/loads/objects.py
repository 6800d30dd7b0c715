# SPDX-License-Identifier: GPL-2.0
"""Keep 100,000 objects; change a part of them that moves, and drop and make some. Runs in the guest."""

import pathlib
import random
import sys
import time

OBJECTS, PART, BATCH = 100_000, 10_000, 400


class Item:
    def __init__(self, number: int) -> None:
        self.number = number
        self.values = [number, number + 1]


def main() -> None:
    draw = random.Random(int(sys.argv[1]))
    items = {number: Item(number) for number in range(OBJECTS)}
    pathlib.Path("/tmp/objects.ready").touch()
    first = 0
    while True:
        for _ in range(BATCH):
            number = (first + draw.randrange(PART)) % OBJECTS
            items[number].values[0] += 1
            if draw.random() < 0.05:
                items[number] = Item(number)
        first += 5
        time.sleep(0.001)


main()
