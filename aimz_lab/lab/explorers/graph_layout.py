"""Lay out a graph in ranks from top to bottom, with nested boxes around some of its nodes.

After Sugiyama, Tagawa and Toda (1981): nodes get ranks, edges over several ranks get bends, and
barycentres of neighbours order each rank. A box is an item of the box around it, over as many ranks
as its nodes have, so that no other node comes to lie in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

NODE_WIDTH, NODE_HEIGHT = 124.0, 40.0
GAP_X, GAP_Y = 14.0, 30.0
PAD, LABEL = 10.0, 16.0
BEND_WIDTH = 10.0
PER_RANK = 4
"""Nodes side by side; more of one rank go below one another, so that 600 px hold them."""

_ROUNDS = 12

Path = tuple[str, ...]
Node = Hashable
Point = tuple[float, float]


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


@dataclass
class _Item:
    """A node, a bend of an edge, or a box of items."""

    key: Node
    first: int
    last: int
    width: float
    items: list[_Item] = field(default_factory=list)
    path: Path = ()
    left: float = 0.0

    @property
    def leaves(self) -> Iterator[tuple[Node, float]]:
        """Yield the nodes and bends in it, and their centres from its left."""
        if not self.path:
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
    ranks = _narrow(_ranks(list(paths), edges), paths)
    routes, bends = _bends(ranks, paths, edges)
    links = [pair for route in routes.values() for pair in itertools.pairwise(route)]
    at = {**ranks, **{bend: bend[1] for bend in bends}}
    where = {**paths, **{bend: bend[2] for bend in bends}}
    root = _items(where, at)
    centres = _ordered(root, links, at)
    above, below = _around(root, "first", PAD + LABEL), _around(root, "last", PAD)
    tops, y = [], PAD
    for rank in range(root.last + 1):
        tops.append(y + above.get(rank, 0.0))
        y = tops[-1] + NODE_HEIGHT + below.get(rank, 0.0) + GAP_Y
    points = {key: (x, tops[at[key]] + NODE_HEIGHT / 2) for key, x in centres.items()}
    boxes = [_box(one, points) for one in _inner(root)]
    lefts = [x - NODE_WIDTH / 2 for key, (x, _) in points.items() if isinstance(key, str)]
    shift = PAD - min([*lefts, *(box.left for box in boxes)], default=0.0)
    points = {key: (x + shift, y) for key, (x, y) in points.items()}
    boxes = [replace(box, left=box.left + shift) for box in boxes]
    rights = [x + NODE_WIDTH / 2 for key, (x, _) in points.items() if isinstance(key, str)]
    return Layout(
        {name: points[name] for name in paths},
        boxes,
        {edge: _passed(route, points) for edge, route in routes.items()},
        max([*rights, *(box.left + box.width for box in boxes)], default=0.0) + PAD,
        max(y - GAP_Y, 0.0) + PAD,
    )


def _ranks(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Rank nodes below all of their parents, and those without parents just above a child."""
    parents: dict[str, list[str]] = {name: [] for name in names}
    children: dict[str, list[str]] = {name: [] for name in names}
    for one, other in edges:
        parents[other].append(one)
        children[one].append(other)
    ranks: dict[str, int] = {}

    def rank(name: str) -> int:
        if name not in ranks:
            ranks[name] = 1 + max(map(rank, parents[name]), default=-1)
        return ranks[name]

    for name in names:
        rank(name)
    for name in names:
        if not parents[name] and children[name]:
            ranks[name] = min(ranks[child] for child in children[name]) - 1
    return ranks


def _narrow(ranks: Mapping[str, int], paths: Mapping[str, Path]) -> dict[str, int]:
    """Put more than some nodes of a rank below one another; nodes of a box stay together."""
    found: dict[str, int] = {}
    below = 0
    for rank in range(max(ranks.values(), default=-1) + 1):
        names = sorted((name for name in ranks if ranks[name] == rank), key=lambda n: paths[n])
        count = max(1, -(-len(names) // PER_RANK))
        each = -(-len(names) // count)
        for at, name in enumerate(names):
            found[name] = below + at // max(each, 1)
        below += count
    return found


def _bends(
    ranks: Mapping[str, int], paths: Mapping[str, Path], edges: Sequence[tuple[str, str]]
) -> tuple[dict[tuple[str, str], list[Node]], set[tuple[str, int, Path]]]:
    """Return the nodes and bends that each edge passes; edges from one node share bends."""
    routes, bends = {}, set()
    for one, other in edges:
        shared = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(paths[one], paths[other]))
        path = tuple(name for name, _ in shared)
        own = [(one, rank, path) for rank in range(ranks[one] + 1, ranks[other])]
        bends.update(own)
        routes[one, other] = [one, *own, other]
    return routes, bends


def _items(where: Mapping[Node, Path], at: Mapping[Node, int]) -> _Item:
    """Nest nodes and bends in their boxes."""
    boxes: dict[Path, _Item] = {(): _Item((), 0, -1, 0.0)}

    def box(path: Path) -> _Item:
        if path not in boxes:
            boxes[path] = _Item(path, 1 << 30, -1, 0.0, path=path)
            box(path[:-1]).items.append(boxes[path])
        return boxes[path]

    for key, path in where.items():
        width = NODE_WIDTH if isinstance(key, str) else BEND_WIDTH
        box(path).items.append(_Item(key, at[key], at[key], width))
        for depth in range(len(path) + 1):
            around = box(path[:depth])
            around.first = min(around.first, at[key])
            around.last = max(around.last, at[key])
    return boxes[()]


def _ordered(
    root: _Item, links: Sequence[tuple[Node, Node]], at: Mapping[Node, int]
) -> dict[Node, float]:
    """Order and place all items; return the centres with the fewest crossings."""
    near: dict[Node, list[Node]] = {key: [] for key in at}
    for one, other in links:
        near[one].append(other)
        near[other].append(one)
    _place(root, {})
    centres = dict(root.leaves)
    right = max(centres.values(), default=0.0)
    best, fewest = centres, (crossings(centres, at, links), float("inf"))
    for _ in range(_ROUNDS):
        wanted = {
            key: min(max(sum(centres[one] for one in its) / len(its), 0.0), right)
            for key, its in near.items()
            if its
        }
        _sort(root, {**centres, **wanted})
        placed = []
        for mirrored in (False, True):
            _place(root, wanted, mirrored=mirrored)
            placed.append(dict(root.leaves))
        # The mean of two places in one order keeps the order, and the gaps.
        centres = {key: (placed[0][key] + placed[1][key]) / 2 for key in at}
        length = sum(abs(centres[one] - centres[other]) for one, other in links)
        found = crossings(centres, at, links), length
        if found < fewest:
            best, fewest = centres, found
    return best


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
        side = max([one for one in (side, least) if one is not None], default=0.0)
        child.left = sign * side - near
        reached |= dict.fromkeys(ranks, side + child.width + GAP_X)
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
    left, top = min(lefts) - PAD, min(tops) - PAD - LABEL
    return Box(item.path, left, top, max(rights) + PAD - left, max(bottoms) + PAD - top)


def _passed(route: Sequence[Node], points: Mapping[Node, Point]) -> list[Point]:
    """Return the points of an edge; at each bend it goes straight down past the nodes."""
    half = NODE_HEIGHT / 2
    found = [(points[route[0]][0], points[route[0]][1] + half)]
    for bend in route[1:-1]:
        x, y = points[bend]
        found += [(x, y - half), (x, y + half)]
    return [*found, (points[route[-1]][0], points[route[-1]][1] - half)]
