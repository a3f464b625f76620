"""Damages of any file, which know nothing of its format.

A damage is a function of the bytes of a file, a random generator, and the bytes of other files. It
returns the damaged bytes, and a text that says what was done. The same generator gives the same
damage.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator

Damage = Callable[[bytes, Generator, Sequence[bytes]], tuple[bytes, str]]


def pick(rng, options):
    """Return one of the options, each with the same chance, as it is."""
    return options[int(rng.integers(len(options)))]


def length(rng, most):
    """Return a length from 1 to ``most``. Every order of magnitude is as likely as another one."""
    return min(int(np.exp(rng.uniform(0, np.log(most + 1)))), most) if most > 1 else 1


def place(rng, data):
    """Return a position in the data. Half of them are near the start, where headers are."""
    end = len(data) if rng.random() < 0.5 else min(len(data), 200)
    return int(rng.integers(max(end, 1)))


def flip_bits(data, rng, others):
    changed = bytearray(data)
    places = [(place(rng, data), int(rng.integers(8))) for _ in range(length(rng, 16))]
    for at, bit in places:
        changed[at] ^= 1 << bit
    return bytes(changed), f"flip bits {places[:4]}"


def overwrite(data, rng, others):
    at, count = place(rng, data), length(rng, 64)
    fill = pick(rng, (b"\0", b"\xff", b" ", b"\n", b"9", None))
    run = rng.bytes(count) if fill is None else fill * count
    return data[:at] + run + data[at + count :], f"overwrite {count} bytes at {at} with {run[:4]}"


def truncate(data, rng, others):
    count = length(rng, len(data)) if rng.random() < 0.5 else int(rng.integers(len(data)) + 1)
    if rng.random() < 0.1:
        return data[count:], f"cut {count} bytes off the start"
    return data[:-count], f"cut {count} bytes off the end"


def delete(data, rng, others):
    at, count = place(rng, data), length(rng, 4096)
    return data[:at] + data[at + count :], f"delete {count} bytes at {at}"


def duplicate(data, rng, others):
    at, count, times = place(rng, data), length(rng, 4096), length(rng, 50)
    part = data[at : at + count]
    return data[:at] + part * times + data[at:], f"{times} more of {count} bytes at {at}"


def insert(data, rng, others):
    at, count = place(rng, data), length(rng, 4096)
    run = rng.bytes(count) if rng.random() < 0.5 else pick(rng, (b"\0", b" ", b"[", b"9")) * count
    return data[:at] + run + data[at:], f"insert {count} bytes at {at}: {run[:4]}"


def exchange(data, rng, others):
    """Exchange two slices of the same length."""
    first, second = sorted((place(rng, data), place(rng, data)))
    count = min(length(rng, 64), second - first, len(data) - second)
    one, other = data[first : first + count], data[second : second + count]
    between = data[first + count : second]
    changed = data[:first] + other + between + one + data[second + count :]
    return changed, f"exchange {count} bytes at {first} and at {second}"


def splice(data, rng, others):
    """Begin as this file and end as another one, or as another part of this one."""
    other = pick(rng, [data, *others])
    here, there = int(rng.integers(len(data)) + 1), int(rng.integers(len(other) + 1))
    return data[:here] + other[there:], f"{here} bytes, then another file from {there} on"


OF_ANY_FILE = (
    flip_bits,
    flip_bits,
    overwrite,
    truncate,
    delete,
    duplicate,
    insert,
    exchange,
    splice,
)


def damage_bytes(data, rng, others):
    """Damage a file without regard to its format."""
    return pick(rng, OF_ANY_FILE)(data, rng, others)


WORDS = (
    *(b"nan", b"inf", b"-1", b"1e308", b"9" * 5000, b"0", b"1.5", b"", b"\t", b"\r\n", b"\0"),
    *(b"\xef\xbb\xbf", b"\xff", b"&b;", b"<object>", b"</object>", b"[", b"{", b": ", b"- ", b"*a"),
    *(b"&a ", b"!!int ''", b"..", b"/", b"C:\\a", b"no such", b"null", b"true"),
)


def damage_words(data, rng, others):
    """Put another word in the place of one: a number, a name or a mark."""
    spans = [found.span() for found in re.finditer(rb"[\w.+-]+|[^\w\s]", data)]
    start, end = pick(rng, spans) if spans else (0, 0)
    word = pick(rng, WORDS)
    return data[:start] + word + data[end:], f"bytes {start} to {end} become {word[:10]}"


def mixture(*damages):
    """Return the damage that does one of several, each with the same chance.

    The result is never the undamaged file, which would prove nothing.
    """

    def damage(data, rng, others):
        changed, what = data, ""
        while changed == data:
            changed, what = pick(rng, damages)(data, rng, others)
        return changed, what

    return damage
