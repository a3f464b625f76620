"""What the verbs say where a limit of detections cuts something.

COCO's evaluation takes at most 100 detections of a class in an image, and detectors for it keep at
most 100 of an image.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from postnms.cli.console import say
from postnms.errors import listed

if TYPE_CHECKING:
    from postnms.analysis.comparison import ComparedRow
    from postnms.evaluation.columns import ResultColumns
    from postnms.evaluation.results import Result
    from postnms.recipes import Recipe

_MOST_ROWS = 4
"""Largest number of rows that a line names."""


def say_cut(
    cut: int,
    images: int,
    limit: int,
    remedy: str,
    tell: Callable[[str], None] = say,
    where: str = "",
) -> None:
    """Say how many images have more detections than a limit, unless there are none.

    ``where`` says where in the images the limit holds, if not in each as a whole.
    """
    if cut:
        tell(
            f"note: {cut} of {images} images have more than {limit} detections{where}: the rest is "
            f"cut, as is usual on COCO; {remedy}"
        )


def limit_setting(recipe: "Recipe") -> str:
    """Return the path of the recipe's field that limits the detections of an image."""
    detector = recipe.detector
    for name in ("box_detections_per_img", "detections_per_img"):
        if name in type(detector).model_fields:
            return f"detector.{name}"
    # The models of torchvision have it among their own options.
    of_box_head = getattr(detector, "model", "").startswith("fasterrcnn")
    return f"detector.options.{'box_' if of_box_head else ''}detections_per_img"


def say_uncounted(results: "Mapping[str, Sequence[Result] | ResultColumns]", images: int) -> None:
    """Say in how many images COCO's evaluation leaves detections out, unless there are none."""
    from postnms.evaluation.matching import MAX_DETECTIONS, images_over_limit

    over = max((images_over_limit(entries) for entries in results.values()), default=0)
    if over:
        say(
            f"note: {over} of {images} images have more than {MAX_DETECTIONS} detections of one "
            f"class: the figures count the best {MAX_DETECTIONS} of them, as COCO does"
        )


def say_compared(rows: "Sequence[ComparedRow]", images: int) -> None:
    """Say which rows of a comparison have more detections than the limits."""
    from postnms.evaluation.matching import MAX_DETECTIONS

    cut = [f"{row.name} in {row.cut}" for row in rows if row.cut]
    if cut:
        say(
            f"note: of {images} images, max_detections cuts {listed(cut, _MOST_ROWS)}, as is usual "
            f"on COCO; --suppressor NAME:max_detections=N keeps more"
        )
    uncounted = [f"{row.name} in {row.uncounted}" for row in rows if row.uncounted]
    if uncounted:
        say(
            f"note: of {images} images, more than {MAX_DETECTIONS} detections of one class have "
            f"{listed(uncounted, _MOST_ROWS)}: the figures count the best {MAX_DETECTIONS}, "
            "as COCO does"
        )
