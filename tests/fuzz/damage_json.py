"""Damages of JSON that keep most of its structure, so that the checks behind the parser are met.

Some of the damaged texts are no JSON, and some are valid JSON of another form or with other values.
"""

import copy
import json

from tests.fuzz.damage import length, pick


class Raw(str):
    """Text that stands in the file as it is, in place of a value."""


STRINGS = (
    "",
    "x",
    "0",
    "1",
    "1.5",
    "null",
    "é ß 漢 🙂",
    "line\nfeed\r\n",
    "\x00",
    "\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "\x9b31m",
    "\u202egnp.exe",
    "\u2028",
    "\ud800",
    "\udfff\ud83d",
    "../outside.txt",
    "a/../../b",
    "C:\\images\\1.png",
    "100%25.png",
    "a$x_{$",
    "x" * 300,
    "x" * 20_000,
)
NUMBERS = (
    0,
    -0.0,
    -1,
    1,
    1.0,
    1.5,
    1e-320,
    1e-30,
    1e30,
    1e39,
    1e308,
    -1e308,
    2**31 - 1,
    2**31,
    -(2**31) - 1,
    2**53 + 1,
    2**63 - 1,
    2**63,
    -(2**63) - 1,
    2**64,
    10**30,
    10**400,
)
RAW = (
    Raw("NaN"),
    Raw("Infinity"),
    Raw("-Infinity"),
    Raw("1e400"),
    Raw("-1e400"),
    Raw("1e-400"),
    Raw("9" * 5000),
    Raw("-" + "9" * 5000),
    Raw("0." + "3" * 5000),
    Raw("01"),
    Raw("+1"),
    Raw("1."),
    Raw("'text'"),
    Raw('"\\u12"'),
    Raw('"\\x41"'),
    Raw('"\t"'),
    Raw('"\\ud800"'),
    Raw("undefined"),
    Raw("[1, 2,]"),
    Raw(""),
)
CONTAINERS = ([], {}, [None], [[]], [0] * 4, [1, 2, 3], {"a": 1}, {"": ""}, {"id": 1})
ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "utf-7", "cp037")
WHITE = (" ", "\n", "\r\n", "\t", "\0", "\x0b", "\xa0", "\ufeff", "\x1b[0m", "/* */", "//\n", "#")


def parsed(data):
    """Return the value of a seed, which is valid JSON."""
    return json.loads(data.decode("utf-8-sig"))


def damage_structure(data, rng, others):
    """Change one to three values, fields or entries of the parsed file, and write it again."""
    top = [parsed(data)]
    done = [change(top, rng) for _ in range(pick(rng, (1, 1, 1, 2, 3)))]
    return written(top[0], pick(rng, (None, None, 2))).encode(), "; ".join(done)


def damage_text(data, rng, others):
    """Change the encoding, or something before, after or between the values."""
    text = data.decode("utf-8-sig")
    return pick(rng, (encode, surround, interrupt, abuse))(text, rng)


def encode(text, rng):
    name = pick(rng, (*ENCODINGS, "latin-1"))
    if name == "latin-1":
        text = text.replace('": "', '": "\xe9', 1)
    return text.encode(name), f"encode as {name}"


def surround(text, rng):
    before, after = (pick(rng, ("", *WHITE, "[", "{", "]", "}", ",", "x", text)) for _ in "12")
    return (before + text + after).encode(), f"{before[:9]!r} before and {after[:9]!r} after"


def interrupt(text, rng):
    places = [at for at, letter in enumerate(text) if letter in ",:[]{}"]
    at, mark = pick(rng, places), pick(rng, WHITE)
    return (text[:at] + mark + text[at:]).encode(), f"{mark!r} at character {at}"


def abuse(text, rng):
    """Replace a mark of the syntax by another one."""
    places = [at for at, letter in enumerate(text) if letter in '",:[]{}']
    at, mark = pick(rng, places), pick(rng, ("", '"', "'", ",", ":", "[", "]", "{", "}", ";"))
    return (text[:at] + mark + text[at + 1 :]).encode(), f"{mark!r} for character {at}"


def change(top, rng):
    """Change one place below ``top``, a list of the one value of the file. Say what was done."""
    holder, key = pick(rng, places_below(top))
    path = f"[{key!r}]"
    old = holder[key]
    choice = pick(rng, CHANGES)
    return f"{choice.__name__} {path}: {choice(holder, key, old, rng)}"


def places_below(top):
    """Return the container and the key of every value at any depth, in the order of the file."""
    places, waiting = [], [top]
    while waiting:
        holder = waiting.pop()
        keys = range(len(holder)) if isinstance(holder, list) else list(holder)
        for key in keys:
            places.append((holder, key))
            if isinstance(holder[key], list | dict):
                waiting.append(holder[key])
    return places


def replace(holder, key, old, rng):
    group = pick(rng, ((None, True, False), STRINGS, NUMBERS, RAW, RAW, CONTAINERS))
    new = copy.deepcopy(pick(rng, group))
    holder[key] = new
    return f"{new!r:.60}"


def convert(holder, key, old, rng):
    """Keep the value, in another type."""
    ways = (lambda: [old], lambda: {"value": old}, lambda: str(old), lambda: [old, old])
    if isinstance(old, int | float):
        ways = (*ways, lambda: float(old), lambda: -old, lambda: old + 0.5, lambda: bool(old))
    if isinstance(old, list):
        ways = (*ways, lambda: dict(enumerate(old)), lambda: old[::-1], lambda: old[:-1])
    holder[key] = pick(rng, ways)()
    return f"{holder[key]!r:.60}"


def nest(holder, key, old, rng):
    depth = pick(rng, (10, 500, 990, 1_100, 5_000, 100_000))
    begin, end = pick(rng, (("[", "]"), ('{"a":', "}")))
    holder[key] = Raw(begin * depth + "0" + end * pick(rng, (depth, 0)))
    return f"{depth} x {begin!r}"


def remove(holder, key, old, rng):
    if not isinstance(old, list | dict) or not old or rng.random() < 0.5:
        # The caller holds the list of one value that stands for the file.
        target, name = holder, key
    else:
        target, name = old, pick(rng, list(old) if isinstance(old, dict) else range(len(old)))
    if target is holder and len(holder) == 1:
        holder[key] = None
        return "null"
    del target[name]
    return repr(name)


def repeat(holder, key, old, rng):
    """Give a value twice: in a list as two entries, in an object under the same name."""
    other = pick(rng, (old, None, 0, "x", []))
    if isinstance(holder, list):
        holder[key] = Raw(f"{written(other)}, {written(old)}")
    else:
        # A name that is given twice cannot stand in a dict, so the text makes it.
        holder[key] = Raw(f"{written(other)}, {json.dumps(key)}: {written(old)}")
    return f"{other!r:.60}"


def rename(holder, key, old, rng):
    if isinstance(holder, list):
        return replace(holder, key, old, rng)
    ways = (key.upper(), key + "s", key[:-1], " " + key, "_" + key, pick(rng, STRINGS))
    name = pick(rng, ways)
    content = {name if other == key else other: value for other, value in holder.items()}
    holder.clear()
    holder.update(content)
    return f"{name!r:.60}"


def swap(holder, key, old, rng):
    """Exchange two values of one list or object."""
    other = pick(rng, list(holder) if isinstance(holder, dict) else range(len(holder)))
    holder[key], holder[other] = holder[other], holder[key]
    return repr(other)


def multiply(holder, key, old, rng):
    """Make a list or a text many times as long."""
    if isinstance(old, list | str) and old:
        holder[key] = old * length(rng, 300)
        return f"{len(holder[key])} long"
    return replace(holder, key, old, rng)


CHANGES = (replace, replace, replace, convert, nest, remove, remove, repeat, rename, swap, multiply)


def written(value, indent=None):
    """Return the text of a value in which ``Raw`` stands for itself."""
    raws = []

    def marked(value):
        if isinstance(value, Raw):
            raws.append(value)
            return f"@raw {len(raws) - 1}@"
        if isinstance(value, dict):
            return {str(name): marked(inside) for name, inside in value.items()}
        return [marked(inside) for inside in value] if isinstance(value, list) else value

    text = json.dumps(marked(value), indent=indent)
    for number, raw in enumerate(raws):
        text = text.replace(f'"@raw {number}@"', raw)
    return text
