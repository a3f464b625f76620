"""Damages of image files: of numbers in their headers, and of parts behind correct checksums."""

import struct
import zlib

from tests.fuzz.damage import flip_bits, length, overwrite, pick, truncate

PNG = b"\x89PNG\r\n\x1a\n"
NUMBERS = (0, 1, 2, 3, 7, 8, 16, 255, 256, 0x7FFF, 0x8000, 0xFFFF)
LARGE = (*NUMBERS, 30_000, 100_000, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
FOREIGN = {
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
    "PDF": b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer << /Root 1 0 R >>\n%%EOF\n",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>\n',
    "DDS": b"DDS " + struct.pack("<7I", 124, 0x1007, 9, 9, 0, 0, 0) + bytes(96),
    "icon": b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0" + struct.pack("<2I", 40, 22) + bytes(64),
    "icon of Mac OS": b"icns\0\0\0\x10ic07\0\0\0\x08",
    "QOI": b"qoif" + struct.pack(">2I", 9, 9) + b"\3\0" + bytes(40),
    "Sun raster": b"\x59\xa6\x6a\x95" + struct.pack(">7I", 9, 9, 24, 243, 1, 0, 0) + bytes(243),
    "Windows metafile": b"\xd7\xcd\xc6\x9a" + bytes(60),
    "text": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "web page": b"<!DOCTYPE html><title>404</title>",
    "zeros": bytes(1000),
    "nothing": b"",
}
"""The starts of files that are no images of the formats which the library reads."""


def damage_numbers(data, rng, others):
    """Put an extreme number in place of one of the first numbers of the file."""
    code = pick(rng, ("<H", ">H", "<I", ">I"))
    at = int(rng.integers(min(len(data), pick(rng, (32, 64, 256))) - 4))
    number = pick(rng, NUMBERS if code[1] == "H" else LARGE)
    packed = struct.pack(code, number)
    return data[:at] + packed + data[at + len(packed) :], f"{number} as {code} at {at}"


def damage_chunks(data, rng, others):
    """Damage the inside of a chunk of a PNG and correct its checksum, so that it is decoded."""
    if not data.startswith(PNG):
        return damage_numbers(data, rng, others)
    chunks = png_chunks(data)
    number = int(rng.integers(len(chunks)))
    name, content = chunks[number]
    what = pick(rng, (flip_bits, overwrite, truncate)) if content else None
    if what is not None and rng.random() < 0.8:
        content, done = what(content, rng, others)
    elif rng.random() < 0.5:
        name, done = pick(rng, (b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"iCCP", b"eXIf")), "named anew"
    else:
        chunks.insert(number, chunks[int(rng.integers(len(chunks)))])
        number, done = number + 1, "another one before it"
    chunks[number] = (name, content)
    return PNG + b"".join(png_chunk(*chunk) for chunk in chunks), f"chunk {number} {name}: {done}"


def png_chunks(data):
    """Return the name and the content of every chunk of a whole PNG."""
    chunks, at = [], len(PNG)
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += size + 12
    return chunks


def png_chunk(name, content):
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def damage_tags(data, rng, others):
    """Change a field of the first directory of a TIFF: tag, type, count or value."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return damage_numbers(data, rng, others)
    (start,) = struct.unpack(order + "I", data[4:8])
    (count,) = struct.unpack(order + "H", data[start : start + 2])
    entry = start + 2 + 12 * int(rng.integers(count))
    offset, code = pick(rng, ((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "H")))
    number = pick(rng, (LARGE if code == "I" else NUMBERS))
    packed = struct.pack(order + code, number)
    at = entry + offset
    return data[:at] + packed + data[at + len(packed) :], f"{number} in a tag, at {at}"


def damage_frame(data, rng, others):
    """Change the frame header of a JPEG: precision, height, width or the components."""
    marks = [at for at in range(len(data) - 20) if data[at : at + 2] in (b"\xff\xc0", b"\xff\xc2")]
    if not data.startswith(b"\xff\xd8") or not marks:
        return damage_numbers(data, rng, others)
    at = marks[0] + int(rng.integers(1, 19))
    run = bytes([pick(rng, (0, 1, 2, 3, 4, 0x11, 0x22, 0x7F, 0xFF))]) * length(rng, 4)
    return data[:at] + run + data[at + len(run) :], f"{run} in the frame header, at {at}"


def become_foreign(data, rng, others):
    """Take a file of another kind under the name of this one."""
    name = pick(rng, sorted(FOREIGN))
    tail = data[length(rng, len(data)) :] if rng.random() < 0.3 else b""
    return FOREIGN[name] + tail, f"the content is {name}"
