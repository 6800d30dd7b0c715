# SPDX-License-Identifier: GPL-2.0
"""Write a C file of many functions, the same for the same seed. Runs in the guest."""

import random
import sys

FUNCTIONS, BODIES, LINES = 12_000, 100, 30


def body(draw: random.Random) -> str:
    """Return the statements of a function, which use its parameters a and b."""
    lines = [f"\tint c = {draw.randrange(1000)};"]
    for _ in range(LINES):
        x, y, z = draw.choice("abc"), draw.choice("abc"), draw.randrange(1, 1000)
        lines.append(f"\tif ({x} * {z} > {y}) {y} = {x} + c * {z}; else c += {z};")
    return "\n".join(lines)


def main() -> None:
    draw = random.Random(int(sys.argv[1]))
    bodies = [body(draw) for _ in range(BODIES)]
    with open(sys.argv[2], "w", encoding="ascii") as file:
        for number in range(FUNCTIONS):
            called = f"function_{draw.randrange(number)}(b, c)" if number else "a"
            file.write(f"int function_{number}(int a, int b)\n{{\n{bodies[number % BODIES]}\n")
            file.write(f"\treturn c + {called};\n}}\n")


main()
