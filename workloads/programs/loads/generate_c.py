# SPDX-License-Identifier: GPL-2.0
"""Write a C file of many functions, the same for the same seed. Runs in the guest."""

import random
import sys

FUNCTIONS, LINES = 12_000, 30


def main() -> None:
    draw = random.Random(int(sys.argv[1]))
    with open(sys.argv[2], "w", encoding="ascii") as file:
        for number in range(FUNCTIONS):
            file.write(f"static int table_{number}[{draw.randrange(1, 64)}];\n")
            file.write(f"int function_{number}(int a, int b)\n{{\n\tint c = {draw.randrange(1000)};\n")
            for _ in range(LINES):
                x, y, z = draw.choice("abc"), draw.choice("abc"), draw.randrange(1, 1000)
                file.write(f"\tif ({x} * {z} > {y}) {y} = {x} + c * {z}; else c += table_{number}[0];\n")
            called = f"function_{draw.randrange(number)}(b, c)" if number else "a"
            file.write(f"\treturn c + {called};\n}}\n")


main()
