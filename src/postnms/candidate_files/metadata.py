"""The metadata of a file of candidates: what they are, and where they come from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from postnms.data.dataset import Category
from postnms.data.formats.fields import check_object, is_number, is_text, read_ids, read_whole
from postnms.errors import UserError, shown, shown_name
from postnms.files.json_files import check_facts, parse_json


@dataclass(frozen=True)
class About:
    """The facts about the candidates of a file, which are stored as the text ``about``."""

    categories: tuple[Category, ...]
    """The classes, in the order of the labels."""
    annotations: str | None
    """Name of the annotations of the images. None: it is not known."""
    provenance: dict[str, Any]
    """Facts about the origin of the candidates, which JSON can hold."""
    milliseconds: Mapping[str, float]
    """Mean time for an image, by the name of the row."""

    def to_text(self) -> str:
        """Return the facts as JSON. Raise ValueError if they hold NaN or infinity."""
        named = [{"id": category.id, "name": category.name} for category in self.categories]
        facts = {"annotations": self.annotations, "provenance": self.provenance}
        about = {"categories": named, **facts, "milliseconds": dict(self.milliseconds)}
        return json.dumps(about, allow_nan=False)


def read_about(text: str, where: str) -> About:
    """Read the facts from JSON.

    Raises UserError that begins with ``where`` and names the field if one has another form.
    """
    about = parse_json(text, where)
    check_object(about, where)
    annotations = _field(about, "annotations", (str, type(None)), "a name or null", where)
    provenance = _field(about, "provenance", (dict,), "an object", where)
    check_facts(provenance, f"{where}: provenance")
    milliseconds = _field(about, "milliseconds", (dict,), "an object", where)
    for row, spent in milliseconds.items():
        if not is_number(spent) or spent < 0:
            field = f"milliseconds.{shown_name(row)}"
            raise UserError(f"{where}: {field}: expected a number >= 0, got {shown(spent)}")
    return About(_categories(about, where), annotations, provenance, milliseconds)


def _categories(about: dict[str, Any], where: str) -> tuple[Category, ...]:
    """Return the classes in the order of the labels."""
    entries = _field(about, "categories", (list,), "a list", where)
    ids = read_ids(entries, f"{where}: categories", read_whole, "an integer")
    for index, entry in enumerate(entries):
        if not is_text(entry.get("name")):
            came = shown(entry.get("name"))
            raise UserError(f"{where}: categories[{index}].name: expected a string, got {came}")
    return tuple(Category(number, entries[index]["name"]) for number, index in ids.items())


def _field(
    about: dict[str, Any], field: str, kinds: tuple[type, ...], expected: str, where: str
) -> Any:
    """Return a field. Raise UserError unless it is there and of one of some types."""
    if field not in about or not isinstance(about[field], kinds):
        came = shown(about[field]) if field in about else "nothing"
        raise UserError(f"{where}: {field}: expected {expected}, got {came}")
    return about[field]
