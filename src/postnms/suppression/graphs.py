"""Suppressors in graphs of ``torch.compile`` and ``torch.export``: one operator for all of them.

How many boxes a suppressor keeps, and how many rounds it runs, depends on the values, so no graph
can hold its steps. The operator ``postnms::suppress`` holds them. A graph knows the number of its
results as a symbol. No gradient flows through it, as through no suppressor.

n: candidates, d: detections, B: images.
"""

from importlib import import_module
from typing import Any, Protocol

import torch
from torch import Tensor

from postnms.structures import Candidates, Detections

Columns = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, list[Tensor], Tensor]
"""Boxes, scores, labels, image and source of the detections, their extra columns, and ``cut``."""


class Limiting(Protocol):
    """The part of a suppressor that the operator needs."""

    def model_dump_json(self) -> str:
        """Return the settings."""
        ...

    def limited(self, candidates: Candidates, *, backend: Any = None) -> tuple[Detections, Tensor]:
        """Return the detections, and the images whose detections were cut."""
        ...


def limited_in_graph(
    suppressor: Limiting, candidates: Candidates, backend: str | None
) -> tuple[Detections, Tensor]:
    """Return what :meth:`Suppressor.limited` returns, as one operator of a graph."""
    names = list(candidates.extra)
    boxes, scores, labels, image, source, extra, cut = torch.ops.postnms.suppress(
        candidates.boxes,
        candidates.scores,
        candidates.labels,
        candidates.image,
        candidates.source,
        names,
        [candidates.extra[name] for name in names],
        candidates.num_images,
        *_described(suppressor),
        backend or "",
    )
    found = dict(zip(names, extra, strict=True))
    number = candidates.num_images
    return Detections(boxes, scores, labels, image, source, number, found), cut


@torch.compiler.assume_constant_result
def _described(suppressor: Limiting) -> tuple[str, str]:
    """Return the class, as ``module:name``, and the settings in JSON. A graph keeps both."""
    kind = type(suppressor)
    if "<locals>" in kind.__qualname__:
        raise ValueError(
            f"suppressor: expected a class of a module in a graph, got {kind.__qualname__}"
        )
    return f"{kind.__module__}:{kind.__qualname__}", suppressor.model_dump_json()


torch.library.define(
    "postnms::suppress",
    "(Tensor boxes, Tensor scores, Tensor labels, Tensor image, Tensor source, str[] names, "
    "Tensor[] extra, SymInt num_images, str kind, str settings, str backend) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor[], Tensor)",
)


# Where a compiled function breaks its graph at the operator, dynamo would trace this body too. The
# suppressor in it would take itself for a part of a graph and call the operator again, without end.
@torch.library.impl("postnms::suppress", "CompositeExplicitAutograd")
@torch.compiler.disable
def _suppress(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    image: Tensor,
    source: Tensor,
    names: list[str],
    extra: list[Tensor],
    num_images: int,
    kind: str,
    settings: str,
    backend: str,
) -> Columns:
    module, _, name = kind.partition(":")
    suppressor = getattr(import_module(module), name).model_validate_json(settings)
    columns = dict(zip(names, extra, strict=True))
    candidates = Candidates(boxes, scores, labels, image, source, num_images, columns)
    found, cut = suppressor.limited(candidates, backend=backend or None)
    kept = [found.extra[name] for name in names]
    return found.boxes, found.scores, found.labels, found.image, found.source, kept, cut


@torch.library.register_fake("postnms::suppress")
def _(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    image: Tensor,
    source: Tensor,
    names: list[str],
    extra: list[Tensor],
    num_images: int,
    kind: str,
    settings: str,
    backend: str,
) -> Columns:
    # The number of detections depends on the values, so that a graph knows it as a symbol only.
    count = torch.library.get_ctx().new_dynamic_size()

    def kept(column: Tensor) -> Tensor:
        return column.new_empty(count, *column.shape[1:])

    cut = labels.new_empty(num_images, dtype=torch.bool)
    columns = kept(boxes), kept(scores), kept(labels), kept(image), kept(source)
    return *columns, [kept(column) for column in extra], cut
