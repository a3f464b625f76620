"""``cluster_nms`` beside public implementations of greedy NMS, which do not say who owns a suppressed box."""

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
GROUPED = ((1000, 80), (4000, 320), (20_000, 80))
"""Boxes and groups; a group is a class of an image: the second is four images of 1,000 boxes in one call."""
ONE_CLASS = (100, 1000, 10_000, 20_000, 50_000, 100_000, 1_000_000)
QUICK_MOST = 20_000
BAD_INPUT_BOXES = 100_000
TOO_LONG = 30_000.0
"""A peer's milliseconds from which on its larger sizes are left out."""
OURS, TORCHVISION = "postnms", "torchvision"
FASTER = {(1000, 80): 3, (4000, 320): 3, (20_000, 1): 10, (50_000, 1): 50, (100_000, 1): 100}
"""How many times as fast as torchvision we want to be on one thread, by boxes and groups."""
GROWTH_FROM, GROWTH_TO, MOST_GROWTH = 10_000, 1_000_000, 1.15

Call = Callable[[], object]
Scene = tuple[Tensor, Tensor, Tensor]
"""Boxes (n, 4), scores (n,), groups (n,)."""


@dataclass(frozen=True)
class Comparison:
    """Times of one scene by library; a library that is not installed, or would take too long, is not among them."""

    boxes: int
    groups: int
    threads: int
    times: dict[str, Timing]

    def ratio(self, peer: str) -> float | None:
        """How many times as long as we the peer takes."""
        theirs = self.times.get(peer)
        return None if theirs is None else theirs.milliseconds / self.times[OURS].milliseconds


@dataclass(frozen=True)
class Target:
    """A figure that is wanted; ``found`` is None where it was not measured."""

    what: str
    wanted: float
    found: float | None
    at_most: bool = False

    @property
    def met(self) -> bool | None:
        """None if not measured."""
        if self.found is None:
            return None
        return self.found <= self.wanted if self.at_most else self.found >= self.wanted


def sizes(quick: bool) -> list[tuple[int, int]]:
    """Boxes and groups of all scenes; ``quick``: without the largest."""
    every = [*GROUPED, *((count, 1) for count in ONE_CLASS)]
    return [(count, groups) for count, groups in every if not quick or count <= QUICK_MOST]


def scene(count: int, groups: int, seed: int = 0) -> Scene:
    """About ten boxes an object, at constant density: about an object in 95 x 95 pixels."""
    random = torch.Generator().manual_seed(seed)
    objects = max(count // 10, 1)
    which = torch.arange(count) % objects
    centre = (torch.rand(objects, 2, generator=random) * 30 * count**0.5)[which]
    side = (torch.rand(objects, 2, generator=random) * 60 + 30)[which]
    middle = centre + torch.randn(count, 2, generator=random) * 6
    half = side * (1 + 0.1 * torch.randn(count, 2, generator=random).clamp(-2, 2)) / 2
    group = torch.randint(groups, (objects,), generator=random)[which]
    return torch.cat([middle - half, middle + half], 1), torch.rand(count, generator=random), group


def bad_inputs(count: int) -> dict[str, Scene]:
    """What could make a grid slow or useless, by name."""
    boxes, scores, group = scene(count, 1)
    flat, small, large = (
        boxes.clone(),
        boxes / boxes.abs().max() * 1e-3,
        boxes / boxes.abs().max() * 1e7,
    )
    flat[:, 2] = flat[:, 0]
    mixed = torch.where((torch.arange(count) % 2 == 0)[:, None], small, large)
    found = {
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
        for name, b in found.items()
    }


def disjoint(count: int) -> Scene:
    """Boxes side by side in a square: each is a key."""
    place, across = torch.arange(count), math.ceil(count**0.5)
    corner = 40.0 * torch.stack([place % across, place // across], 1)
    scores = torch.rand(count, generator=torch.Generator().manual_seed(0))
    return torch.cat([corner, corner + 30], 1), scores, torch.zeros_like(place)


def libraries() -> dict[str, str | None]:
    """Versions of the peers; None: not installed."""
    return {name: _version(name) for name in ("torchvision", "powerboxes", "lsnms")}


def calls(of: Scene) -> dict[str, Call]:
    """What each installed library is timed at; converting the input to what a library takes is not counted.

    powerboxes knows no groups: as torchvision does for few boxes, they are moved apart, in float64, where they are
    exact enough; that is counted.
    """
    boxes, scores, group = of
    alone, installed = len(group) == 0 or int(group.max()) == 0, libraries()
    found: dict[str, Call] = {
        OURS: lambda: cluster_nms(boxes, scores, None if alone else group, IOU_THRESHOLD)[0]
    }
    if alone:
        found[TORCHVISION] = lambda: torchvision.ops.nms(boxes, scores, IOU_THRESHOLD)
    else:
        found[TORCHVISION] = lambda: torchvision.ops.batched_nms(
            boxes, scores, group, IOU_THRESHOLD
        )
    points, members = scores.double().numpy(), group.numpy()
    if installed["powerboxes"]:
        import powerboxes  # pyright: ignore[reportMissingImports]

        corners = (boxes if alone else boxes.double()).numpy()

        def apart():
            return (
                corners
                if alone
                else corners + members[:, None] * (corners.max() - corners.min() + 1)
            )

        found["powerboxes nms"] = lambda: powerboxes.nms(apart(), points, IOU_THRESHOLD, 0.0)
        found["powerboxes rtree_nms"] = lambda: powerboxes.rtree_nms(
            apart(), points, IOU_THRESHOLD, 0.0
        )
    if installed["lsnms"]:
        import lsnms  # pyright: ignore[reportMissingImports]

        doubles = boxes.double().numpy()
        found["lsnms"] = lambda: lsnms.nms(
            doubles, points, IOU_THRESHOLD, 0.0, None if alone else members
        )
    return found


def compare(
    of: Iterable[tuple[int, int]], rounds: int, threads: int, budget: float = BUDGET
) -> list[Comparison]:
    """Time all libraries on scenes of (boxes, groups), those of as many groups by growing size.

    A peer is left out of a size where, as it has grown so far, it would take more than ``TOO_LONG``.
    """
    found: list[Comparison] = []
    with torch_threads(threads):
        for count, groups in of:
            before = [row for row in found if row.groups == groups]
            sides = {
                name: call
                for name, call in calls(scene(count, groups)).items()
                if name == OURS
                or expected([(row.boxes, row.times.get(name)) for row in before], count) <= TOO_LONG
            }
            found.append(Comparison(count, groups, threads, measure(sides, rounds, budget=budget)))
    return found


def expected(before: Sequence[tuple[int, Timing | None]], count: int) -> float:
    """Milliseconds at ``count`` boxes from those of smaller sizes: none, 0; left out of the last, infinite.

    Else by its growth from a tenth of the last size or less, taken to be linear at least and quadratic at most; nearer
    sizes would tell more of noise. Quadratic if there is none.
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
    """The exponent of a library's time in the number of boxes of one class, from 1e4 to its largest size, and that."""
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
    """What was wanted of one thread, and whether it was found."""
    alone = {(row.boxes, row.groups): row for row in rows if row.threads == 1}
    found = []
    for (count, groups), wanted in FASTER.items():
        row = alone.get((count, groups))
        what = (
            f"{count:,} boxes of {groups} group{'s' * (groups > 1)}: times as fast as torchvision"
        )
        found.append(Target(what, wanted, None if row is None else row.ratio(TORCHVISION)))
    grown = growth(rows, OURS)
    exponent = grown[1] if grown is not None and grown[0] == GROWTH_TO else None
    return [
        *found,
        Target(
            f"exponent of the time, {GROWTH_FROM:,} to {GROWTH_TO:,} boxes",
            MOST_GROWTH,
            exponent,
            True,
        ),
    ]


def time_bad_inputs(rounds: int, count: int) -> dict[str, Timing]:
    """Ours alone, on one thread."""
    sides: Mapping[str, Call] = {
        name: lambda s=s: cluster_nms(*s, iou_threshold=IOU_THRESHOLD)
        for name, s in bad_inputs(count).items()
    }
    with torch_threads(1):
        return measure(sides, rounds)


def _slope(fewer: int, quick: Timing, more: int, slow: Timing) -> float:
    return math.log(slow.milliseconds / quick.milliseconds) / math.log(more / fewer)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
