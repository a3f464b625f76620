"""Damages of safetensors files: of the header, of the metadata, and of the numbers.

A file is 8 bytes with the length of the header, the header as JSON, and the bytes of all tensors
(https://github.com/huggingface/safetensors#format).
"""

import json
import math
import struct

from tests.fuzz.damage import pick
from tests.fuzz.damage_json import damage_structure, damage_text

SIZES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "F32": 4,
    "U32": 4,
    "F64": 8,
    "I64": 8,
    "U64": 8,
    "C64": 8,
    "X9": 4,
}
"""Bytes of a number by the name of its dtype. The last one is no dtype."""
METADATA = "__metadata__"
EXTREMES = {
    "F32": (math.nan, math.inf, -math.inf, 1e30, -1.0, 1e-40, 0.5),
    "I32": (-1, 2**31 - 1, -(2**31), 3, 100),
    "I64": (-1, 2**63 - 1, -(2**63), 2**40, 3),
}
CODES = {"F32": "<f", "I32": "<i", "I64": "<q"}


def split(data):
    """Return the header of a file as a dict, and the bytes of its tensors."""
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def join(header, body, extra=0):
    """Return a file. ``extra`` is added to the length of the header that it states."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", (len(text) + extra) % 2**64) + text + body


def pick_tensor(header, rng):
    return pick(rng, sorted(name for name in header if name != METADATA))


def damage_header(data, rng, others):
    """Change what the header says of one tensor, and leave the bytes of the tensors as they are."""
    header, body = split(data)
    name = pick_tensor(header, rng)
    about = header[name]
    what = pick(rng, ("dtype", "shape", "data_offsets", "name", "swap", "length"))
    if what == "dtype":
        about["dtype"] = pick(rng, list(SIZES))
    elif what == "shape":
        about["shape"] = other_shape(about["shape"], rng)
    elif what == "data_offsets":
        about["data_offsets"] = other_offsets(about["data_offsets"], len(body), rng)
    elif what == "name":
        header[
            pick(rng, (name + "x", name[:-1], "model.x", "rows.x", "extra.", "", "\x1b[31m"))
        ] = header.pop(name)
    elif what == "swap":
        other = pick_tensor(header, rng)
        header[name], header[other] = header[other], header[name]
    else:
        return join(header, body, pick(rng, (-1, 1, 8, -8, 2**20, 2**40, 2**63))), "header length"
    return join(header, body), f"{what} of {name}: {header.get(name)!r:.80}"


def other_shape(shape, rng):
    if not shape or rng.random() < 0.2:
        return pick(rng, ([], [0], [1], [1, *shape], [*shape, 1], [2**62, 4], [-1], [1.5], None))
    changed, at = list(shape), int(rng.integers(len(shape)))
    ways = (0, 1, shape[at] - 1, shape[at] + 1, 2 * shape[at], shape[at] // 2, 2**63, 2**64 + 1)
    changed[at] = pick(rng, ways)
    return pick(rng, (changed, changed, shape[::-1], [math.prod(shape)]))


def other_offsets(offsets, end, rng):
    start, stop = offsets
    step = pick(rng, (-8, -4, -1, 1, 4, 8, end, 2**62))
    ways = (
        [start + step, stop + step],
        [start, stop + step],
        [stop, start],
        [0, stop - start],
        [start],
        [str(start), stop],
        None,
    )
    return pick(rng, ways)


def damage_header_text(data, rng, others):
    """Damage the header as any JSON is damaged."""
    header, body = split(data)
    text, what = pick(rng, (damage_structure, damage_text))(json.dumps(header).encode(), rng, [])
    return join(text, body), f"header: {what}"


def damage_metadata(data, rng, others):
    """Change the facts that stand beside the tensors."""
    header, body = split(data)
    metadata = header[METADATA] = header.get(METADATA) or {"format": ""}
    name = pick(rng, sorted(metadata))
    what = pick(rng, ("inside", "inside", "inside", "inside", "text", "value", "gone", "none"))
    if what in ("inside", "text") and metadata[name][:1] in ("{", "["):
        damage = damage_structure if what == "inside" else damage_text
        text, done = damage(metadata[name].encode(), rng, [])
        metadata[name] = text.decode("latin-1")
        return join(header, body), f"metadata {name}: {done}"
    if what == "none":
        del header[METADATA]
    elif what == "gone":
        del metadata[name]
    else:
        metadata[name] = pick(rng, ("", "x", "null", "[]", "1", None, 1, [], {}, "\x1b[31m\n"))
    return join(header, body), f"metadata {name}: {metadata.get(name)!r:.60}"


def damage_numbers(data, rng, others):
    """Change the numbers of one tensor, and leave the header as it is."""
    header, body = split(data)
    name = pick_tensor(header, rng)
    start, stop = header[name]["data_offsets"]
    if start == stop:
        return data, "nothing"
    part = bytearray(body[start:stop])
    dtype = header[name]["dtype"]
    what = pick(rng, ("bit", "bit", "extreme", "zero", "order"))
    if what == "extreme" and dtype in EXTREMES:
        size = SIZES[dtype]
        at = size * int(rng.integers(len(part) // size))
        number = pick(rng, EXTREMES[dtype])
        part[at : at + size] = struct.pack(CODES[dtype], number)
        what = f"{number} at byte {at}"
    elif what == "zero":
        part = bytearray(len(part))
    elif what == "order":
        part = part[SIZES[dtype] :] + part[: SIZES[dtype]]
    else:
        at, bit = int(rng.integers(len(part))), int(rng.integers(8))
        part[at] ^= 1 << bit
        what = f"bit {bit} of byte {at}"
    return join(header, body[:start] + bytes(part) + body[stop:]), f"{name}: {what}"


def damage_tensors(data, rng, others):
    """Leave out, shorten, copy or convert a tensor in a file that stays a valid one."""
    header, body = split(data)
    tensors = {
        name: (about["dtype"], about["shape"], body[slice(*about["data_offsets"])])
        for name, about in header.items()
        if name != METADATA
    }
    name = pick(rng, sorted(tensors))
    dtype, shape, part = tensors[name]
    what = pick(rng, ("out", "shorten", "copy", "wider", "narrower", "more", "exchange"))
    if what == "out":
        del tensors[name]
    elif what == "shorten" and shape and shape[0]:
        row = len(part) // shape[0]
        tensors[name] = (dtype, [shape[0] - 1, *shape[1:]], part[: len(part) - row])
    elif what == "wider":
        wide = {4: "F64" if dtype == "F32" else "I64"}.get(SIZES[dtype], dtype)
        tensors[name] = (wide, shape, part + bytes(math.prod(shape) * SIZES[wide] - len(part)))
    elif what == "narrower" and SIZES[dtype] > 1:
        tensors[name] = ("F16" if SIZES[dtype] == 4 else "F32", shape, part[: len(part) // 2])
    elif what == "more":
        tensors[pick(rng, ("extra.x", "rows.x.boxes", "model.x", "optimizer.x.y", "x"))] = tensors[
            name
        ]
    else:
        other = pick(rng, sorted(tensors))
        tensors[name], tensors[other] = tensors[other], tensors[name]
        what = f"exchange with {other}"
    return packed(header.get(METADATA, {}), tensors), f"{name}: {what}"


def packed(metadata, tensors):
    """Return a valid file of tensors, each given as (dtype, shape, bytes)."""
    header, body = {METADATA: metadata}, b""
    for name, (dtype, shape, part) in tensors.items():
        offsets = [len(body), len(body) + len(part)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        body += part
    return join(header, body)
