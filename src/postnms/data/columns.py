"""Images and objects of a split as columns of numbers, and views of them as COCO's dicts.

A list of dicts takes about 1 KiB an object, and reading it changes the memory pages that worker
processes share. Columns take about 60 bytes an object, and reading leaves them as they are.

B: images, N: objects of all images.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, SupportsIndex, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from postnms.data.ids import Ids, ImageId, Texts

_AT_ONCE = 4096
"""Number of rows of which a view makes dicts at a time."""


class Columns(Protocol):
    """Columns of which :class:`Entries` makes dicts."""

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def dicts(self, rows: slice) -> Iterator[dict[str, Any]]:
        """Yield a new dict for each of some rows."""
        ...


@dataclass(frozen=True, eq=False)
class ImageColumns:
    """The images of a split."""

    ids: Ids
    """B ids, no two of them equal."""
    names: Texts
    """B file names, as the annotations have them."""
    sizes: NDArray[np.int32]
    """(B, 2) height and width in pixels, at least 1."""

    def __len__(self) -> int:
        return len(self.ids)

    def dicts(self, rows: slice) -> Iterator[dict[str, Any]]:
        """Yield ``id``, ``file_name``, ``height`` and ``width`` of some images."""
        sizes = self.sizes[rows].tolist()
        for own, name, (height, width) in zip(self.ids[rows], self.names[rows], sizes, strict=True):
            yield {"id": own, "file_name": name, "height": height, "width": width}

    def take(self, rows: NDArray[np.int64]) -> "ImageColumns":
        """Return the columns of some images."""
        return ImageColumns(self.ids.take(rows), self.names.take(rows), self.sizes[rows])


@dataclass(frozen=True, eq=False)
class ObjectColumns:
    """The objects of a split and its crowd regions, in the order of the file."""

    image_ids: Ids
    """The ids of the B images."""
    category_ids: tuple[int, ...]
    """The ids of the classes, in the order of the file."""
    image: NDArray[np.int32]
    """(N,) position in ``image_ids``."""
    category: NDArray[np.int32]
    """(N,) position in ``category_ids``."""
    boxes: NDArray[np.float64]
    """(N, 4) x, y, width, height in pixels, as the file has them: sides are at least 0."""
    area: NDArray[np.float64]
    """(N,) square pixels, at least 0."""
    crowd: NDArray[np.bool_]
    """(N,). True: the box covers a group of objects."""
    ids: Ids
    """N ids of the annotations, None where the file has none."""

    def __len__(self) -> int:
        return len(self.image)

    def dicts(self, rows: slice) -> Iterator[dict[str, Any]]:
        """Yield the fields of some annotations that COCO's evaluation reads, and their ids."""
        columns = (self.image, self.category, self.boxes, self.area, self.crowd)
        parts = (column[rows].tolist() for column in columns)
        for own, image, category, box, area, crowd in zip(self.ids[rows], *parts, strict=True):
            entry = {
                "image_id": self.image_ids[image],
                "category_id": self.category_ids[category],
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }
            yield entry if own is None else {"id": own, **entry}

    def take(self, rows: NDArray[np.int64]) -> "ObjectColumns":
        """Return the columns of some objects."""
        names = ("image", "category", "boxes", "area", "crowd")
        columns: dict[str, Any] = {name: getattr(self, name)[rows] for name in names}
        return replace(self, **columns, ids=self.ids.take(rows))

    def with_category_ids(
        self, category_ids: tuple[int, ...], id_of: Mapping[int, int] | None = None
    ) -> "ObjectColumns":
        """Return the columns with positions in another list of classes.

        ``id_of`` has the id of each class in that list. None: the ids stay. Raises ValueError for
        an object of a class that the list lacks.
        """
        if category_ids == self.category_ids and id_of is None:
            return self
        position = {own: place for place, own in enumerate(category_ids)}
        ids = [own if id_of is None else id_of.get(own) for own in self.category_ids]
        table = np.array([position.get(own, -1) for own in ids], np.int32)  # pyright: ignore
        category = table[self.category]
        if (category < 0).any():
            row = int(np.flatnonzero(category < 0)[0])
            own = self.category_ids[self.category[row]]
            raise ValueError(f"annotations: expected a listed category_id, got {own}")
        return replace(self, category_ids=category_ids, category=category)

    def of_images(self, rows: NDArray[np.int64], image_ids: Ids) -> "ObjectColumns":
        """Return the objects of some images, whose ids are ``image_ids``, in their order."""
        position = np.full(len(self.image_ids), -1, np.int32)
        position[rows] = np.arange(len(rows), dtype=np.int32)
        moved = replace(self, image=position[self.image], image_ids=image_ids)
        return moved.take(np.flatnonzero(moved.image >= 0))


class ObjectRows:
    """Objects that come one by one and become columns.

    Args:
        image_ids: the ids of the images.
        category_ids: the ids of the classes, in the order of the file.
    """

    def __init__(self, image_ids: Ids, category_ids: Sequence[int]) -> None:
        self._image_ids = image_ids
        self._category_ids = tuple(category_ids)
        self._places = array("i")
        self._numbers = array("d")
        self._crowd = bytearray()

    def __len__(self) -> int:
        return len(self._crowd)

    def add(
        self, image: int, category: int, bbox: Sequence[float], area: float, crowd: bool
    ) -> None:
        """Add an object: positions of its image and class, [x, y, width, height] and its area."""
        self._places.extend((image, category))
        self._numbers.extend((*bbox, area))
        self._crowd.append(crowd)

    def columns(self, ids: Iterable[ImageId | None]) -> ObjectColumns:
        """Return the columns of all objects, whose ids are ``ids``."""
        places = np.array(self._places, np.int32).reshape(-1, 2)
        numbers = np.array(self._numbers, np.float64).reshape(-1, 5)
        return ObjectColumns(
            self._image_ids,
            self._category_ids,
            image=places[:, 0].copy(),
            category=places[:, 1].copy(),
            boxes=numbers[:, :4].copy(),
            area=numbers[:, 4].copy(),
            crowd=np.frombuffer(bytes(self._crowd), np.bool_),
            ids=Ids.of(ids),
        )


def object_columns(
    entries: Iterable[Mapping[str, Any]], image_ids: Ids, category_ids: Sequence[int]
) -> ObjectColumns:
    """Return annotations that are COCO's dicts as columns.

    Raises ValueError for an annotation of an image or a class that is not listed.
    """
    images = {own: position for position, own in enumerate(image_ids)}
    categories = {own: position for position, own in enumerate(category_ids)}
    rows, ids = ObjectRows(image_ids, category_ids), []
    for entry in entries:
        for field, known in (("image_id", images), ("category_id", categories)):
            if entry[field] not in known:
                raise ValueError(f"annotations: expected a listed {field}, got {entry[field]!r}")
        places = images[entry["image_id"]], categories[entry["category_id"]]
        rows.add(*places, entry["bbox"], entry["area"], bool(entry["iscrowd"]))
        ids.append(entry.get("id"))
    return rows.columns(ids)


class Entries(Sequence[dict[str, Any]]):
    """Columns as a list of dicts, each of which is made when it is asked for.

    Changing such a dict changes nothing in the columns. A slice is a list of new dicts.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns)

    @overload
    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> dict[str, Any] | list[dict[str, Any]]:
        chosen = range(len(self))[index]
        if isinstance(chosen, range):
            return [self[row] for row in chosen]
        return next(self.columns.dicts(slice(chosen, chosen + 1)))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self.columns.dicts(slice(start, min(start + _AT_ONCE, len(self))))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Entries) and other.columns is self.columns:
            return True
        if not isinstance(other, Sequence) or len(other) != len(self):
            return False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # pyright: ignore

    def __repr__(self) -> str:
        return f"<{len(self)} entries>"


Kind = TypeVar("Kind", ImageColumns, ObjectColumns)


def columns_of(entries: Sequence[Mapping[str, Any]], kind: type[Kind]) -> Kind | None:
    """Return the columns of a list of dicts, or None if it has none of this kind."""
    if isinstance(entries, Entries) and isinstance(entries.columns, kind):
        return entries.columns
    return None
