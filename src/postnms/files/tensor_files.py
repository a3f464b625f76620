"""Tensors and facts in one safetensors file, with a checksum that is verified on reading.

A file is written under another name and then renamed, so it is never half written. Pickle is not
used, so reading a file runs no code. The checksum covers names, dtypes, shapes, values and facts:
a single changed bit is an error.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from postnms.errors import UserError, shown
from postnms.files.atomic import atomic_path
from postnms.files.json_files import parse_json

FORMAT = "postnms-2"
"""Name of the format in the metadata of a file."""

_FAMILY = "postnms-"
"""What the names of this and of older formats begin with."""
_SIZE = 8
"""Number of bytes before the header of a safetensors file, which hold the size of the header."""


def save_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    about: Mapping[str, Any],
    *,
    older: Path | None = None,
) -> None:
    """Write tensors and the facts about them to a safetensors file.

    Args:
        path: the file. If writing fails, an older file of that name is left as it was.
        tensors: the tensors by name, on any device.
        about: facts that JSON can hold.
        older: where to move an older file of that name to. None: it is replaced.

    Raises:
        UserError: the operating system refuses. The message names the file.
    """
    here = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    facts = json.dumps(about)
    metadata = {"format": FORMAT, "about": facts, "sha256": _checksum(here, facts)}
    with atomic_path(path, older=older) as temporary, temporary.open("wb") as file:
        content = memoryview(save(here, metadata))
        end = _SIZE + int.from_bytes(content[:_SIZE], "little")
        file.write(_in_order(bytes(content[_SIZE:end])))
        file.write(content[end:])


def _in_order(header: bytes) -> bytes:
    """Return the size of a header and the header, its metadata in the order of their names.

    safetensors writes metadata in a random order. The same content shall give the same bytes.
    """
    fields = json.loads(header)
    fields["__metadata__"] = dict(sorted(fields["__metadata__"].items()))
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _SIZE)  # The tensors begin at a multiple of eight bytes.
    return len(text).to_bytes(_SIZE, "little") + text


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file that :func:`save_tensors` wrote.

    Returns:
        The tensors by name, on the CPU.
        The facts about them.

    Raises:
        UserError: the file is missing or damaged, or it has another format. The message names the
            file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in list(file.keys())}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error!s:.200})") from error
    if metadata.get("format") != FORMAT:
        raise UserError(f"{path}: expected format {FORMAT!r}, got {shown(metadata.get('format'))}")
    facts = metadata.get("about", "")
    if metadata.get("sha256") != _checksum(tensors, facts):
        raise UserError(f"{path}: is damaged (its content does not have its checksum)")
    about = parse_json(facts, f"{path}: about")
    if not isinstance(about, dict):
        raise UserError(f"{path}: about: expected an object, got {type(about).__name__}")
    return tensors, about


def is_tensor_file(path: Path) -> bool:
    """Return whether a file claims to be one of :func:`save_tensors`, of any version of it."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return (file.metadata() or {}).get("format", "").startswith(_FAMILY)
    except (SafetensorError, OSError):
        return False


def _checksum(tensors: Mapping[str, Tensor], facts: str) -> str:
    """Return the SHA-256 hash, in hexadecimal, of tensors on the CPU and of the facts."""
    digest = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        # The bytes of a tensor, whatever its dtype is: numpy has no bfloat16.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
