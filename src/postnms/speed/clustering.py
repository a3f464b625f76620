"""Speed of ``cluster_nms`` beside public implementations of greedy NMS.

The other libraries are called peers here. They return the kept boxes only, while ``cluster_nms``
also returns the owner of each suppressed box.

n: boxes of a scene.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch
import torchvision
from torch import Tensor

from postnms.ops import cluster_nms
from postnms.speed.timing import BUDGET, Timing, measure, torch_threads

IOU_THRESHOLD = 0.5
"""IoU threshold of every timed call."""

GROUPED = ((1000, 80), (4000, 320), (20_000, 80))
"""Sizes (boxes, groups) of the scenes with several groups.

A group is one class in one image. The second scene is like four images of 1,000 boxes in one call.
"""

ONE_CLASS = (100, 1000, 10_000, 20_000, 50_000, 100_000, 1_000_000)
"""Numbers of boxes of the scenes with one group."""

QUICK_MOST = 20_000
"""Largest number of boxes of a quick benchmark."""

BAD_INPUT_BOXES = 100_000
"""Number of boxes of each bad input."""

TOO_LONG = 30_000.0
"""Largest expected milliseconds of a peer for a size at which it is timed."""

OURS = "postnms"
TORCHVISION = "torchvision"

FASTER = {(1000, 80): 3, (4000, 320): 3, (20_000, 1): 10, (50_000, 1): 50, (100_000, 1): 100}
"""Least factor by which to be faster than torchvision on one thread, by (boxes, groups)."""

GROWTH_FROM = 10_000
GROWTH_TO = 1_000_000
"""Numbers of boxes between which the growth of the time is measured."""

MOST_GROWTH = 1.15
"""Largest exponent that this growth should have."""

Call = Callable[[], object]
Scene = tuple[Tensor, Tensor, Tensor]
"""Boxes (n, 4) float32 xyxy in pixels, scores (n,) float32 in [0, 1), groups (n,) int64."""


@dataclass(frozen=True)
class Comparison:
    """Times of all libraries on one scene."""

    boxes: int
    groups: int
    threads: int
    """Number of CPU threads."""
    times: dict[str, Timing]
    """Timing by library. A library that is not installed or would take too long is missing."""

    def ratio(self, peer: str) -> float | None:
        """Return the time of a peer over ours, or None if the peer was not timed."""
        theirs = self.times.get(peer)
        return None if theirs is None else theirs.milliseconds / self.times[OURS].milliseconds


@dataclass(frozen=True)
class Target:
    """A figure with the limit that it should meet."""

    what: str
    """Description of the figure."""
    wanted: float
    """The limit."""
    found: float | None
    """The measured value, or None if it was not measured."""
    at_most: bool = False
    """True: the limit is the largest good value. False: it is the smallest good value."""

    @property
    def met(self) -> bool | None:
        """Whether the measured value meets the limit, or None if it was not measured."""
        if self.found is None:
            return None
        return self.found <= self.wanted if self.at_most else self.found >= self.wanted


def sizes(quick: bool) -> list[tuple[int, int]]:
    """Return the sizes (boxes, groups) of all scenes.

    ``quick`` leaves out those of more than :data:`QUICK_MOST` boxes.
    """
    every = [*GROUPED, *((count, 1) for count in ONE_CLASS)]
    return [(count, groups) for count, groups in every if not quick or count <= QUICK_MOST]


def synthetic_scene(count: int, groups: int, seed: int = 0) -> Scene:
    """Return a random scene of crowded boxes, which is the same for the same arguments.

    There are about ten boxes for each object. The density does not depend on the size of the scene:
    there is about one object in 95 x 95 pixels. All boxes of an object are in the same group.

    Args:
        count: number of boxes.
        groups: number of groups. Each object is in a random one.
        seed: seed of the random numbers.

    Example:
        >>> from postnms.speed.clustering import synthetic_scene
        >>> boxes, scores, groups = synthetic_scene(1000, 4)
        >>> boxes.shape, groups.unique().tolist()
        (torch.Size([1000, 4]), [0, 1, 2, 3])
    """
    random = torch.Generator().manual_seed(seed)
    objects = max(count // 10, 1)
    object_of_box = torch.arange(count) % objects
    # The area grows with the number of boxes, so that the density is constant.
    centre = (torch.rand(objects, 2, generator=random) * 30 * count**0.5)[object_of_box]
    side = (torch.rand(objects, 2, generator=random) * 60 + 30)[object_of_box]
    middle = centre + torch.randn(count, 2, generator=random) * 6
    half = side * (1 + 0.1 * torch.randn(count, 2, generator=random).clamp(-2, 2)) / 2
    group = torch.randint(groups, (objects,), generator=random)[object_of_box]
    return torch.cat([middle - half, middle + half], 1), torch.rand(count, generator=random), group


def bad_inputs(count: int) -> dict[str, Scene]:
    """Return scenes of ``count`` boxes that could make the grid of the CPU kernel slow, by name.

    The first one is an ordinary scene, as a comparison.
    """
    boxes, scores, group = synthetic_scene(count, 1)
    flat = boxes.clone()
    flat[:, 2] = flat[:, 0]
    small = boxes / boxes.abs().max() * 1e-3
    large = boxes / boxes.abs().max() * 1e7
    mixed = torch.where((torch.arange(count) % 2 == 0)[:, None], small, large)
    boxes_by_name = {
        "an ordinary scene, to compare": boxes,
        "all identical": boxes[:1].repeat(count, 1),
        "all disjoint": disjoint(count)[0],
        "each a group of its own": boxes,
        "zero width": flat,
        "coordinates up to 1e-3": small,
        "coordinates up to 1e7": large,
        "half up to 1e-3, half up to 1e7": mixed,
    }
    alone = torch.arange(count)
    return {
        name: (b, scores, alone if name == "each a group of its own" else group)
        for name, b in boxes_by_name.items()
    }


def disjoint(count: int) -> Scene:
    """Return a scene of boxes side by side in a square. None overlap, so each box is a key."""
    index = torch.arange(count)
    across = math.ceil(count**0.5)
    corner = 40.0 * torch.stack([index % across, index // across], 1)
    scores = torch.rand(count, generator=torch.Generator().manual_seed(0))
    return torch.cat([corner, corner + 30], 1), scores, torch.zeros_like(index)


def libraries() -> dict[str, str | None]:
    """Return the version of each peer by name, or None for a peer that is not installed."""
    return {name: _version(name) for name in ("torchvision", "powerboxes", "lsnms")}


def timed_calls(scene: Scene) -> dict[str, Call]:
    """Return the call on a scene that is timed, for this library and each installed peer.

    Each call returns the keys. The conversion of the input to the types that a library takes is not
    part of the call.

    powerboxes has no groups. Its boxes are moved apart by group, as torchvision does for few boxes.
    This happens in float64, which is exact enough, and it is part of the call.
    """
    boxes, scores, group = scene
    alone = len(group) == 0 or int(group.max()) == 0
    installed = libraries()
    calls: dict[str, Call] = {
        OURS: lambda: cluster_nms(boxes, scores, None if alone else group, IOU_THRESHOLD)[0]
    }
    if alone:
        calls[TORCHVISION] = lambda: torchvision.ops.nms(boxes, scores, IOU_THRESHOLD)
    else:
        calls[TORCHVISION] = lambda: torchvision.ops.batched_nms(
            boxes, scores, group, IOU_THRESHOLD
        )
    points = scores.double().numpy()
    members = group.numpy()
    if installed["powerboxes"]:
        import powerboxes  # pyright: ignore[reportMissingImports]

        corners = (boxes if alone else boxes.double()).numpy()

        def apart():
            return (
                corners
                if alone
                else corners + members[:, None] * (corners.max() - corners.min() + 1)
            )

        calls["powerboxes nms"] = lambda: powerboxes.nms(apart(), points, IOU_THRESHOLD, 0.0)
        calls["powerboxes rtree_nms"] = lambda: powerboxes.rtree_nms(
            apart(), points, IOU_THRESHOLD, 0.0
        )
    if installed["lsnms"]:
        import lsnms  # pyright: ignore[reportMissingImports]

        doubles = boxes.double().numpy()
        calls["lsnms"] = lambda: lsnms.nms(
            doubles, points, IOU_THRESHOLD, 0.0, None if alone else members
        )
    return calls


def compare_clustering(
    scene_sizes: Iterable[tuple[int, int]], rounds: int, threads: int, budget: float = BUDGET
) -> list[Comparison]:
    """Time all libraries on synthetic scenes.

    A peer is skipped at a size where it is expected to take more than :data:`TOO_LONG`
    milliseconds, and at all later sizes of as many groups. See :func:`expected`.

    Args:
        scene_sizes: (boxes, groups) of each scene. Sizes of as many groups come by rising boxes.
        rounds: how often each call is timed.
        threads: number of CPU threads.
        budget: seconds after which a call is not repeated again.

    Returns:
        One comparison for each size, in their order.
    """
    comparisons: list[Comparison] = []
    with torch_threads(threads):
        for count, groups in scene_sizes:
            before = [row for row in comparisons if row.groups == groups]
            sides = {
                name: call
                for name, call in timed_calls(synthetic_scene(count, groups)).items()
                if name == OURS
                or expected([(row.boxes, row.times.get(name)) for row in before], count) <= TOO_LONG
            }
            times = measure(sides, rounds, budget=budget)
            comparisons.append(Comparison(count, groups, threads, times))
    return comparisons


def expected(before: Sequence[tuple[int, Timing | None]], count: int) -> float:
    """Return the extrapolated milliseconds of a library at ``count`` boxes.

    ``before`` lists (boxes, timing) of smaller sizes by rising boxes, with None where the library
    was skipped. If it is empty, the result is 0. If the last size was skipped, it is infinity.

    Otherwise the time grows from the last size by a power of the number of boxes. The exponent is
    measured between the last size and the nearest one of at most a tenth of it, since the times of
    closer sizes would show noise more than growth. It is limited to [1, 2]. It is 2 if no size is
    small enough.
    """
    if not before:
        return 0.0
    boxes, last = before[-1]
    if last is None:
        return math.inf
    far = [(fewer, quick) for fewer, quick in before if quick is not None and fewer * 10 <= boxes]
    exponent = min(max(_slope(*far[-1], boxes, last), 1.0), 2.0) if far else 2.0
    return last.milliseconds * (count / boxes) ** exponent


def growth(rows: Sequence[Comparison], name: str, threads: int = 1) -> tuple[int, float] | None:
    """Return how the time of a library grows with the number of boxes of one group.

    Returns:
        The largest number of boxes at which the library was timed, and the exponent e of time ~
        boxes^e between :data:`GROWTH_FROM` boxes and that number. None if the library was not timed
        at :data:`GROWTH_FROM` boxes or not at any larger number.
    """
    times = {
        row.boxes: row.times[name]
        for row in rows
        if (row.groups, row.threads) == (1, threads) and name in row.times
    }
    largest = max(times, default=0)
    if GROWTH_FROM not in times or largest <= GROWTH_FROM:
        return None
    return largest, _slope(GROWTH_FROM, times[GROWTH_FROM], largest, times[largest])


def targets(rows: Sequence[Comparison]) -> list[Target]:
    """Return our targets for one thread, with the figures that were measured."""
    alone = {(row.boxes, row.groups): row for row in rows if row.threads == 1}
    results = []
    for (count, groups), wanted in FASTER.items():
        row = alone.get((count, groups))
        what = (
            f"{count:,} boxes of {groups} group{'s' * (groups > 1)}: times as fast as torchvision"
        )
        results.append(Target(what, wanted, None if row is None else row.ratio(TORCHVISION)))
    # The exponent is compared with its limit only if the largest scene was timed.
    grown = growth(rows, OURS)
    exponent = grown[1] if grown is not None and grown[0] == GROWTH_TO else None
    return [
        *results,
        Target(
            f"exponent of the time, {GROWTH_FROM:,} to {GROWTH_TO:,} boxes",
            MOST_GROWTH,
            exponent,
            True,
        ),
    ]


def time_bad_inputs(rounds: int, count: int) -> dict[str, Timing]:
    """Time ``cluster_nms`` alone on :func:`bad_inputs` of ``count`` boxes, on one thread."""
    sides: Mapping[str, Call] = {
        name: lambda s=s: cluster_nms(*s, iou_threshold=IOU_THRESHOLD)
        for name, s in bad_inputs(count).items()
    }
    with torch_threads(1):
        return measure(sides, rounds)


def _slope(fewer: int, quick: Timing, more: int, slow: Timing) -> float:
    """Return the exponent e of time ~ boxes^e between two sizes."""
    return math.log(slow.milliseconds / quick.milliseconds) / math.log(more / fewer)


def _version(name: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
