"""Lay out a graph in ranks from top to bottom, with nested boxes around some of its nodes.

After Sugiyama, Tagawa and Toda (1981): nodes get ranks, edges over several ranks get bends, and
barycentres of neighbours order each rank. A box is an item of the box around it, over as many ranks
as its nodes have, so that no other node comes to lie in it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

NODE_WIDTH, NODE_HEIGHT = 124.0, 40.0
GAP_X, GAP_Y, BEND_GAP = 10.0, 30.0, 4.0
PAD, LABEL = 8.0, 16.0
BEND_WIDTH = 6.0
PER_RANK = 4
"""Nodes side by side; more of one rank go below one another, so that 600 px hold them."""

_ROUNDS = 24
_PAGE = 580.0

Path = tuple[str, ...]
Point = tuple[float, float]


class _Bend(NamedTuple):
    """A place that edges of a node pass on their way, in a box."""

    node: str
    rank: int
    path: Path


Node = str | _Bend


@dataclass(frozen=True)
class Box:
    """A rectangle around the nodes of a plate.

    Attributes:
        path: Names of the boxes around it and its own, outermost first.
        left: Distance from the left, in pixels.
        top: Distance from the top.
        width: Width.
        height: Height.
    """

    path: Path
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Layout:
    """Places of nodes, boxes and edges, in pixels from the top left.

    Attributes:
        nodes: Centre of each node.
        boxes: The boxes, those around others first.
        edges: For each edge the points that it passes, from the bottom of its first node to the top
            of its last.
        width: Width of the whole.
        height: Height of the whole.
    """

    nodes: Mapping[str, Point]
    boxes: Sequence[Box]
    edges: Mapping[tuple[str, str], Sequence[Point]]
    width: float
    height: float


def _width(key: Node) -> float:
    return BEND_WIDTH if isinstance(key, _Bend) else NODE_WIDTH


@dataclass
class _Item:
    """A node, a bend of an edge, or a box of items."""

    key: Node | Path
    first: int
    last: int
    width: float
    items: list[_Item] = field(default_factory=list)
    path: Path = ()
    left: float = 0.0

    @property
    def leaves(self) -> Iterator[tuple[Node, float]]:
        """Yield the nodes and bends in it, and their centres from its left."""
        if not self.items:
            yield self.key, self.width / 2
        for item in self.items:
            for key, centre in item.leaves:
                yield key, item.left + centre


def lay_out(paths: Mapping[str, Path], edges: Sequence[tuple[str, str]]) -> Layout:
    """Lay out a graph without circles.

    Args:
        paths: For each node the boxes around it, outermost first.
        edges: Pairs of nodes; the second is below the first.

    Returns:
        The places; equal graphs have equal ones.

    Example:
        >>> found = lay_out({"a": (), "b": ("plate",)}, [("a", "b")])
        >>> found.nodes["a"][1] < found.nodes["b"][1], found.boxes[0].path
        (True, ('plate',))
    """
    ranks = _ranks(paths, edges)
    routes, bends = _bends(ranks, paths, edges)
    links = [pair for route in routes.values() for pair in itertools.pairwise(route)]
    at = {**ranks, **{bend: bend.rank for bend in bends}}
    where = {**paths, **{bend: bend.path for bend in bends}}
    root = _items(where, at)
    centres = _ordered(root, links, at)
    above, below = _around(root, "first", PAD), _around(root, "last", PAD + LABEL)
    tops, y = [], PAD
    for rank in range(root.last + 1):
        tops.append(y + above.get(rank, 0.0))
        y = tops[-1] + NODE_HEIGHT + below.get(rank, 0.0) + GAP_Y
    points = {key: (x, tops[at[key]] + NODE_HEIGHT / 2) for key, x in centres.items()}
    boxes = [_box(one, points) for one in _inner(root)]
    lefts = [x - _width(key) / 2 for key, (x, _) in points.items()]
    shift = PAD - min([*lefts, *(box.left for box in boxes)], default=0.0)
    points = {key: (x + shift, y) for key, (x, y) in points.items()}
    boxes = [replace(box, left=box.left + shift) for box in boxes]
    rights = [x + _width(key) / 2 for key, (x, _) in points.items()]
    return Layout(
        {name: points[name] for name in paths},
        boxes,
        {edge: _passed(route, points) for edge, route in routes.items()},
        max([*rights, *(box.left + box.width for box in boxes)], default=0.0) + PAD,
        max(y - GAP_Y, 0.0) + PAD,
    )


def _ranks(paths: Mapping[str, Path], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Rank nodes above all of their children, some to a rank; from the bottom upwards.

    A node comes soon after the last of its children (as in the scheduling of Coffman and Graham,
    1972), so that a parent stands near its child also where many nodes could share a rank.
    """
    parents: dict[str, list[str]] = {name: [] for name in paths}
    open_children = dict.fromkeys(paths, 0)
    for one, other in edges:
        parents[other].append(one)
        open_children[one] += 1
    order = {name: at for at, name in enumerate(paths)}
    ready = {name: 0 for name in paths if not open_children[name]}
    rows: list[list[str]] = []
    while ready:
        best = sorted(ready, key=lambda name: (-ready[name], paths[name], -order[name]))
        rows.append(best[:PER_RANK])
        for name in rows[-1]:
            del ready[name]
            for parent in parents[name]:
                open_children[parent] -= 1
                if not open_children[parent]:
                    ready[parent] = len(rows)
    return {name: len(rows) - 1 - at for at, row in enumerate(rows) for name in row}


def _bends(
    ranks: Mapping[str, int], paths: Mapping[str, Path], edges: Sequence[tuple[str, str]]
) -> tuple[dict[tuple[str, str], list[Node]], list[_Bend]]:
    """Return the nodes and bends that each edge passes.

    Edges of one node share bends: those of the parent, or of the child if it has more edges.
    """
    out, into = Counter(one for one, _ in edges), Counter(other for _, other in edges)
    routes: dict[tuple[str, str], list[Node]] = {}
    bends: dict[_Bend, None] = {}  # in their order: equal graphs have equal places
    for one, other in edges:
        owner = other if into[other] > out[one] else one
        both = zip(paths[one], paths[other], strict=False)
        path = tuple(name for name, _ in itertools.takewhile(lambda pair: len({*pair}) == 1, both))
        own = [_Bend(owner, rank, path) for rank in range(ranks[one] + 1, ranks[other])]
        bends |= dict.fromkeys(own)
        routes[one, other] = [one, *own, other]
    return routes, list(bends)


def _items(where: Mapping[Node, Path], at: Mapping[Node, int]) -> _Item:
    """Nest nodes and bends in their boxes."""
    boxes: dict[Path, _Item] = {(): _Item((), 0, -1, 0.0)}

    def box(path: Path) -> _Item:
        if path not in boxes:
            boxes[path] = _Item(path, 1 << 30, -1, 0.0, path=path)
            box(path[:-1]).items.append(boxes[path])
        return boxes[path]

    for key, path in where.items():
        box(path).items.append(_Item(key, at[key], at[key], _width(key)))
        for depth in range(len(path) + 1):
            around = box(path[:depth])
            around.first = min(around.first, at[key])
            around.last = max(around.last, at[key])
    return boxes[()]


def _ordered(
    root: _Item, links: Sequence[tuple[Node, Node]], at: Mapping[Node, int]
) -> dict[Node, float]:
    """Order and place all items; return the centres with the fewest crossings."""
    above: dict[Node, list[Node]] = {key: [] for key in at}
    below: dict[Node, list[Node]] = {key: [] for key in at}
    for one, other in links:
        below[one].append(other)
        above[other].append(one)
    both = {key: above[key] + below[key] for key in at}
    _place(root, {})
    centres = dict(root.leaves)
    right = max(centres.values(), default=0.0)
    best, least = centres, _cost(centres, at, links)
    for number in range(_ROUNDS):
        # By turns: two ranks that follow each other at once would only change places.
        near = (above, below, both)[number % 3]
        wanted = centres | {
            key: min(max(sum(centres[one] for one in its) / len(its), 0.0), right)
            for key, its in near.items()
            if its
        }
        _sort(root, wanted)
        placed = []
        for mirrored in (False, True):
            _place(root, wanted, mirrored=mirrored)
            placed.append(dict(root.leaves))
        # The mean of two places in one order keeps the order, and the gaps.
        centres = {key: (placed[0][key] + placed[1][key]) / 2 for key in at}
        found = _cost(centres, at, links)
        if found < least:
            best, least = centres, found
    return best


def _cost(
    centres: Mapping[Node, float], at: Mapping[Node, int], links: Sequence[tuple[Node, Node]]
) -> float:
    """Weigh crossings, the width beyond a page, and the length of edges, in pixels."""
    width = max(centres.values()) - min(centres.values()) + NODE_WIDTH
    length = sum(abs(centres[one] - centres[other]) for one, other in links)
    return 10 * crossings(centres, at, links) + 3 * max(width - _PAGE, 0) + length / 30


def _sort(item: _Item, wanted: Mapping[Node, float]) -> None:
    for child in item.items:
        _sort(child, wanted)

    def mean(child: _Item) -> float:
        keys = [key for key, _ in child.leaves]
        return sum(wanted[key] for key in keys) / len(keys)

    item.items.sort(key=mean)


def _place(item: _Item, wanted: Mapping[Node, float], *, mirrored: bool = False) -> None:
    """Place the items of a box side by side, each as near as can be to where it wants to be.

    Args:
        item: The box.
        wanted: Centres where nodes and bends want to be.
        mirrored: Place from the right; else from the left.
    """
    sign = -1.0 if mirrored else 1.0
    reached: dict[int, float] = {}
    for child in reversed(item.items) if mirrored else item.items:
        if child.path:  # inside of a box, items are packed: one that spreads pushes all others
            _place(child, {}, mirrored=mirrored)
        lefts = [wanted[key] - centre for key, centre in child.leaves if key in wanted]
        left = sum(lefts) / len(lefts) if lefts else None
        near = child.width if mirrored else 0.0  # from its left to the side placed first
        ranks = range(child.first, child.last + 1)
        least = max((reached[rank] for rank in ranks if rank in reached), default=None)
        side = None if left is None else sign * (left + near)
        if least is not None:  # beside those before it; only the first of a rank is free
            side = least
        elif side is None:
            side = 0.0
        child.left = sign * side - near
        gap = BEND_GAP if isinstance(child.key, _Bend) else GAP_X
        reached |= dict.fromkeys(ranks, side + child.width + gap)
    if item.path:
        shift = PAD - min(child.left for child in item.items)
        for child in item.items:
            child.left += shift
        item.width = PAD + max(child.left + child.width for child in item.items)


def crossings(
    centres: Mapping[Node, float], at: Mapping[Node, int], links: Sequence[tuple[Node, Node]]
) -> int:
    """Count the pairs of links between the same ranks that cross."""
    count = 0
    for (a, b), (c, d) in itertools.combinations(links, 2):
        if at[a] == at[c] and a != c and b != d:
            count += (centres[a] - centres[c]) * (centres[b] - centres[d]) < 0
    return count


def _inner(item: _Item) -> Iterator[_Item]:
    """Yield the boxes in a box, those around others first."""
    for child in item.items:
        if child.path:
            yield child
            yield from _inner(child)


def _around(item: _Item, end: Literal["first", "last"], pad: float) -> dict[int, float]:
    """Return the room that walls of boxes need above, or below, the nodes of each rank."""
    found: dict[int, float] = {}
    for child in item.items:
        if child.path:
            rank = getattr(child, end)
            within = _around(child, end, pad)
            for other, room in within.items():
                found[other] = max(found.get(other, 0.0), room)
            found[rank] = max(found.get(rank, 0.0), pad + within.get(rank, 0.0))
    return found


def _box(item: _Item, points: Mapping[Node, Point]) -> Box:
    """Return the rectangle of a box, around the places of all that is in it."""
    inner = [_box(child, points) for child in item.items if child.path]
    own = [child for child in item.items if not child.path]
    half = NODE_HEIGHT / 2
    lefts = [points[one.key][0] - one.width / 2 for one in own] + [box.left for box in inner]
    rights = [points[one.key][0] + one.width / 2 for one in own]
    rights += [box.left + box.width for box in inner]
    tops = [points[one.key][1] - half for one in own] + [box.top for box in inner]
    bottoms = [points[one.key][1] + half for one in own]
    bottoms += [box.top + box.height for box in inner]
    # The label is below, as arrows come in from above.
    left, top, end = min(lefts) - PAD, min(tops) - PAD, max(bottoms) + PAD + LABEL
    return Box(item.path, left, top, max(rights) + PAD - left, end - top)


def _passed(route: Sequence[Node], points: Mapping[Node, Point]) -> list[Point]:
    """Return the points of an edge; at each bend it goes straight down past the nodes."""
    half = NODE_HEIGHT / 2
    found = [(points[route[0]][0], points[route[0]][1] + half)]
    for bend in route[1:-1]:
        x, y = points[bend]
        found += [(x, y - half), (x, y + half)]
    return [*found, (points[route[-1]][0], points[route[-1]][1] - half)]
