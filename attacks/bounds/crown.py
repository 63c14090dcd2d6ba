"""Bounds on what a graph gives over a region: intervals, and linear forms carried back to the input.

A form a . y of a node's output is bounded from below by going back through the graph: an affine piece turns it into a
form of its inputs, and a piece that is not affine lies between two lines on its interval (CROWN, arXiv 1811.00866). At
the input the region has the last word. Intervals alone are the same walk, ended at the first piece that is not affine.

Rounding. The network that is bounded is any that does at each node what the model means to do, plus an error of at
most `local`: n roundings of unit u err by at most n u / (1 - n u) times the sum of the sizes of what is added up,
in whichever order. So the model in its own arithmetic is one of them, and each form a . y loses |a| . local on its way.
SLACK, a million times the unit of float64, is added to that error at each node: it covers the rounding of the bounds.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .graph import Graph, Node
from .pieces import Affine, Bent, Lines
from .region import Region

SLACK = 2.0**-33
CHUNK = 2**18  # numbers of a node that are carried back at a time
MOST = 1e9  # numbers carried back to tighten one layer of one row; a layer that takes more keeps its intervals


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
        """Intervals; where `tighten`, by CROWN too for what enters a piece that is not affine."""
        bounds = cls(graph, region)
        for place, node in enumerate(graph.nodes):
            bounds._add(node)
            bent = graph.bent(place)
            if tighten and bent is not None:
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
        self.low.append(low)
        self.high.append(high)
        self.local.append(local)

    def _tighten(self, place: int, bent: Bent) -> None:
        low, high = _rows(self.low[place]), _rows(self.high[place])
        wanted = _rows(bent.undecided(self.low[place], self.high[place]))
        elements = self.graph.elements(place)
        wanted &= (wanted.sum(1, keepdim=True) * 2 * elements) <= MOST
        rows, units = wanted.nonzero(as_tuple=True)
        for part in torch.arange(len(rows), device=rows.device).split(self.together(place)):
            row, unit = rows[part], units[part]
            for sign, kept, better in ((1.0, low, torch.fmax), (-1.0, high, torch.fmin)):
                form = low.new_zeros(len(part), low.shape[1])
                form[torch.arange(len(part), device=rows.device), unit] = sign
                bound = sign * self.least(place, form, row)
                kept[row, unit] = better(kept[row, unit], bound)

    def together(self, place: int) -> int:
        widest = max(torch.Size(node.shape).numel() for node in self.graph.nodes[: place + 1])
        return max(1, CHUNK // widest)

    def least(self, place: int, form: Tensor, rows: Tensor, crown: bool = True) -> Tensor:
        """[N] lower bound of form . y, y the output of the node for row rows[i]; form is [N, d], rows [N] int64.

        crown: go back to the input; without it only to the first pieces that are not affine, and their intervals.
        """
        forms = {place: form.view(-1, *self.graph.nodes[place].shape)}
        total = form.new_zeros(len(form))
        for here in range(place, -1, -1):
            if here not in forms:
                continue
            a, node = forms.pop(here), self.graph.nodes[here]
            total -= _rows(a.abs() * self.local[here][rows]).sum(1)
            if node.piece is None:
                total += self.region.least(_rows(a), rows)
            elif isinstance(node.piece, Affine):
                if node.piece.bias is not None:
                    total += _rows(a * node.piece.bias).sum(1)
                shapes = [self.graph.nodes[i].shape for i in node.inputs]
                for i, pulled in zip(node.inputs, node.piece.pulled(a, shapes), strict=True):
                    forms[i] = forms[i] + pulled if i in forms else pulled
            elif crown:
                (i,) = node.inputs
                lines = Lines(*(None if v is None else v[rows] for v in self.lines[here]))
                up, down = a.clamp_min(0), a.clamp_max(0)
                total += _rows(down * lines.offset).sum(1)
                pulled = node.piece.pulled(up * lines.lower + down * lines.upper, lines, self.graph.nodes[i].shape)
                forms[i] = forms[i] + pulled if i in forms else pulled
            else:
                total += _rows(torch.where(a > 0, a * self.low[here][rows], a * self.high[here][rows])).sum(1)
        return total


def _size(low: Tensor, high: Tensor) -> Tensor:
    return torch.maximum(low.abs(), high.abs())


def _rows(values: Tensor) -> Tensor:
    """[N, ...] -> [N, d]; one number per row is d = 1."""
    return values.reshape(len(values), -1)
