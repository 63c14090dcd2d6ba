"""Bounds on what a graph gives over a region: intervals, and linear forms carried back to the input.

A form a . y of a node's output is bounded from below by going back through the graph: an affine piece turns it into a
form of its inputs, and a piece that is not affine lies between two lines on its interval (CROWN, arXiv 1811.00866). At
the input the region has the last word. Intervals alone are the same walk, ended at the first piece that is not affine.

Rounding. The network that is bounded is any that does at each node what the model means to do, plus an error of at
most `local`: n roundings of unit u err by at most n u / (1 - n u) times the sum of the sizes of what is added up,
in whichever order. So the model in its own arithmetic is one of them, and each form a . y loses |a| . local on its way.
SLACK, a million times the unit of float64, is added to that error at each node: it covers the rounding of the bounds.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .graph import Graph, Node
from .pieces import Affine, Bent, Lines
from .region import Region

SLACK = 2.0**-33
CHUNK = 2**18  # numbers of a node that are carried back at a time
MOST = 2e9  # numbers carried back to tighten a layer of a row (some ten seconds); a layer that takes more is left


@dataclass
class Bounds:
    """Of each node of a graph, for b rows: [b, ...] float64."""

    graph: Graph
    region: Region
    low: list[Tensor] = field(default_factory=list)
    high: list[Tensor] = field(default_factory=list)
    local: list[Tensor] = field(default_factory=list)  # the error that the node itself may add
    lines: dict[int, Lines] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph, region: Region, tighten: bool) -> "Bounds":
        """Intervals; where `tighten`, by CROWN too for what an affine piece hands to one that is not."""
        bounds = cls(graph, region)
        for place, node in enumerate(graph.nodes):
            bounds._add(node)
            bent = graph.bent(place)
            if tighten and bent is not None and isinstance(node.piece, Affine):
                bounds._tighten(place, bent)
        return bounds

    def _add(self, node: Node) -> None:
        lows, highs = ([values[i] for i in node.inputs] for values in (self.low, self.high))
        if node.piece is None:
            shape = (-1, *node.shape)
            low, high = self.region.low.reshape(shape), self.region.high.reshape(shape)
            self._store(low, high, SLACK * _size(low, high))
            return
        if isinstance(node.piece, Affine):
            low, high = node.piece.image(lows, highs)
            size = node.piece.size(*map(_size, lows, highs))
        else:
            low, high = node.piece(lows[0]), node.piece(highs[0])
            size = _size(low, high)
            self.lines[len(self.low)] = node.piece.lines(lows[0], highs[0])
        n = node.piece.roundings
        share = n * node.unit / (1 - n * node.unit) if n * node.unit < 1 else torch.inf
        local = (share + SLACK) * size + n * node.tiny
        self._store(low - local, high + local, local)

    def _store(self, low: Tensor, high: Tensor, local: Tensor) -> None:
        self.low.append(low.contiguous())
        self.high.append(high.contiguous())
        self.local.append(local)

    def _tighten(self, place: int, bent: Bent) -> None:
        low, high = _rows(self.low[place]), _rows(self.high[place])
        wanted = _rows(bent.undecided(self.low[place], self.high[place]))
        elements = self.graph.elements(place)
        wanted &= (wanted.sum(1, keepdim=True) * 2 * elements) <= MOST
        for part in wanted.nonzero().split(self.together(place)):
            row, unit = part.unbind(1)
            for sign, kept, better in ((1.0, low, torch.fmax), (-1.0, high, torch.fmin)):
                form = low.new_zeros(len(part), low.shape[1])
                form.scatter_(1, unit[:, None], sign)
                bound = sign * self.least(place, form, row)
                kept[row, unit] = better(kept[row, unit], bound)

    def together(self, place: int) -> int:
        """How many forms are carried back from a node at a time."""
        widest = max(math.prod(node.shape) for node in self.graph.nodes[: place + 1])
        return max(1, CHUNK // widest)

    def least(self, place: int, form: Tensor, rows: Tensor, crown: bool = True) -> Tensor:
        """[N] lower bound of form . y, y the output of the node for row rows[i]; form is [N, d], rows [N] int64.

        crown: go back to the input; without it only to the first pieces that are not affine, and their intervals.
        """
        forms = {place: form.view(-1, *self.graph.nodes[place].shape)}
        total = form.new_zeros(len(form))
        for here in range(place, -1, -1):
            if here in forms and len(form):
                value, pulled = self._back(here, forms.pop(here), rows, crown)
                total += value
                for i, each in zip(self.graph.nodes[here].inputs, pulled, strict=False):
                    forms[i] = forms[i] + each if i in forms else each
        return total

    def _back(self, here: int, a: Tensor, rows: Tensor, crown: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        """A constant [N] and forms of the inputs, whose sum is at most the form a [N, ...] of the node's output."""
        node = self.graph.nodes[here]
        shapes = [self.graph.nodes[i].shape for i in node.inputs]
        value = -_rows(a.abs() * self.local[here][rows]).sum(1)
        if node.piece is None:
            return value + self.region.least(_rows(a), rows), ()
        if isinstance(node.piece, Affine):
            value = value if node.piece.bias is None else value + _rows(a * node.piece.bias).sum(1)
            return value, node.piece.pulled(a, shapes)
        if crown:
            offset, pulled = node.piece.pulled(a, self.lines[here].of(rows), shapes[0])
            return value + _rows(offset).sum(1), (pulled,)
        return value + _rows(torch.where(a > 0, a * self.low[here][rows], a * self.high[here][rows])).sum(1), ()


def _size(low: Tensor, high: Tensor) -> Tensor:
    return torch.maximum(low.abs(), high.abs())


def _rows(values: Tensor) -> Tensor:
    """[N, ...] -> [N, d]; one number per row is d = 1."""
    return values.reshape(len(values), -1)
