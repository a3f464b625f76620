"""Damages of JSON that is compressed with gzip."""

import gzip

from tests.fuzz.damage import length, pick, splice
from tests.fuzz.damage_json import damage_structure, damage_text

PIECE = 1 << 20
"""Bytes of the text that a bomb repeats."""


def damage_packed(data, rng, others):
    """Damage the text, and compress it again."""
    text, what = pick(rng, (damage_structure, damage_text))(gzip.decompress(data), rng, others)
    return gzip.compress(text, mtime=0), f"inside: {what}"


def damage_members(data, rng, others):
    """Compress a text in two parts, repeat one of them, or put something between or after them."""
    text = gzip.decompress(data)
    at = int(rng.integers(len(text)))
    first, second = (gzip.compress(part, mtime=0) for part in (text[:at], text[at:]))
    empty = gzip.compress(b"", mtime=0)
    what = pick(rng, ("two", "zeros", "rubbish", "again", "empty", "half"))
    parts = {
        "two": (first, second),
        "zeros": (first, second, bytes(length(rng, 1000))),
        "rubbish": (first, second, rng.bytes(length(rng, 1000))),
        "again": (first, first, second),
        "empty": (empty, first, empty, second, empty),
        "half": (first, second[: length(rng, len(second))]),
    }
    return b"".join(parts[what]), f"members: {what}"


def bomb(data, rng, others):
    """Return a small file of a text of hundreds of megabytes, most of it one value or white space.

    It is rare, since even its clean refusal takes about a second.
    """
    if rng.random() < 0.9:
        return splice(data, rng, others)
    before, fill, after = pick(
        rng, (("[", " ", "]"), ('["', "a", '"]'), ("[", "1", "]"), ("[", "[", ""), ("[[", "0,", ""))
    )
    times = pick(rng, (64, 256, 1024))
    piece = gzip.compress((fill * PIECE)[:PIECE].encode(), mtime=0)
    start, end = (gzip.compress(part.encode(), mtime=0) for part in (before, after))
    return start + piece * times + end, f"{times} MiB of {fill!r}"
