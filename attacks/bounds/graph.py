"""A model as a graph of pieces that can be bounded."""

import math
import operator
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.module_tracker import ModuleTracker

from ..errors import InputError
from .operators import MAKERS
from .operators.making import Unbounded, Var
from .pieces import Affine, Bent, Shape

ROWS = 3  # a model is traced on so many rows, which differ
KINDS = (
    "linear, convolution, batch normalisation in eval mode, addition and scaling by constants, residual addition, "
    "reshaping, padding, slicing, concatenation, average and maximum pooling, ReLU and leaky ReLU"
)


@dataclass(frozen=True)
class Node:
    name: str
    piece: Affine | Bent | None  # None: the model's input
    inputs: tuple[int, ...]
    shape: Shape  # of one row
    unit: float  # half a unit in the last place of 1, in the type that the model computes it in
    tiny: float  # smallest normal number of that type


@dataclass(frozen=True)
class Graph:
    """nodes: in the order of computation; the first is the input, the last gives the logits."""

    nodes: tuple[Node, ...]

    @classmethod
    def of(cls, model: nn.Module, x: Tensor) -> "Graph":
        """The graph of a model in eval mode, for inputs like x [B, ...].

        What does not depend on the input (folded weights, 1 / std) is computed here, as the model does and in its
        types, and is a constant from then on. Raises InputError, with the node, where something cannot be bounded.
        """
        shape = (ROWS, *x.shape[1:])  # values of no meaning: what the model reads off them becomes apparent
        x = torch.linspace(0, 1, math.prod(shape), dtype=x.dtype, device=x.device).reshape(shape)
        with torch.device(x.device):
            try:
                return cls(_Reader(_traced(model, x)).nodes())
            except _Refused as refused:
                raise InputError(refused.sentence(_module_of(refused.node, model, x))) from None

    def elements(self, last: int) -> int:
        """Numbers per row in the nodes up to `last`."""
        return sum(math.prod(node.shape) for node in self.nodes[: last + 1])

    def bent(self, place: int) -> Bent | None:
        """The piece that is not affine and takes this node's output, if there is one."""
        pieces = (node.piece for node in self.nodes if node.inputs == (place,))
        return next((piece for piece in pieces if piece is not None and not isinstance(piece, Affine)), None)


def _traced(model: nn.Module, x: Tensor) -> fx.GraphModule:
    try:
        with torch.no_grad():
            traced = make_fx(torch.func.functionalize(lambda x: model(x.clone())))(x)
    except InputError:
        raise
    except Exception as error:  # a model's forward may raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"The model cannot be bounded, since it cannot be traced ({reason}): its forward must be made of tensor "
            "operations and must not branch on their values."
        ) from error
    traced.graph.eliminate_dead_code()
    return traced


class _Refused(Exception):  # noqa: N818  # becomes an InputError once the node's module is known
    def __init__(self, node: fx.Node, reason: str):
        super().__init__(reason)
        self.node, self.reason = node, reason

    def sentence(self, module: str) -> str:
        return (
            f"The model cannot be bounded: node {self.node.name!r} ({self.node.target}{module}): {self.reason}. "
            f"What can be bounded: {KINDS}."
        )


class _Reader:
    """Goes through the traced nodes and keeps, for each, its constant value or its place in the graph."""

    def __init__(self, traced: fx.GraphModule):
        self.traced = traced
        self.known: dict[fx.Node, Any] = {}
        self.found: list[Node] = []

    def nodes(self) -> tuple[Node, ...]:
        for node in self.traced.graph.nodes:
            self.known[node] = self._read(node)
        logits = self.known[node]
        if not isinstance(logits, Var) or len(logits.shape) != 2 or logits.shape[0] != ROWS:
            what = (
                f"{list(logits.shape)} for {ROWS} rows" if isinstance(logits, Var) else "what no tensor of it reaches"
            )
            raise InputError(f"The model cannot be bounded: of its input it makes {what}; logits [b, K] are needed.")
        return tuple(self.found[: logits.node + 1])

    def _read(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self._added(node, None, (), node.meta["val"])
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.traced)
        args, kwargs = map_arg((node.args, node.kwargs), self.known.__getitem__)
        if node.op == "output":
            return args[0]
        if not any(isinstance(self.known[each], Var) for each in node.all_input_nodes):
            return self._constant(node, args, kwargs)
        if node.target is operator.getitem:  # of what gives several tensors; only the first depends on the input alone
            return args[0] if args[1] == 0 else self._refuse(node, "this output of it is not known")
        return self._piece(node, args, kwargs)

    def _constant(self, node: fx.Node, args: tuple, kwargs: dict) -> Any:
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            self._refuse(node, "it draws random numbers")
        with torch.no_grad():
            return node.target(*args, **kwargs)  # type: ignore[operator]

    def _piece(self, node: fx.Node, args: tuple, kwargs: dict) -> Var:
        value = node.meta["val"]
        value = value[0] if isinstance(value, list | tuple) else value
        if node.target not in MAKERS:
            self._refuse(node, "this operator is not known")
        try:
            piece, inputs = MAKERS[node.target](tuple(value.shape), *args, **kwargs)
        except Unbounded as unbounded:
            self._refuse(node, str(unbounded))
        except (
            TypeError,
            AttributeError,
        ):  # an argument that the maker does not have, or a Var where it wants a number
            self._refuse(node, "these arguments of it are not known")
        return self._added(node, piece, tuple(each.node for each in inputs), value)

    def _added(self, node: fx.Node, piece: Affine | Bent | None, inputs: tuple[int, ...], value: Tensor) -> Var:
        if not value.is_floating_point():
            self._refuse(node, f"it gives {value.dtype}")
        unit = torch.finfo(value.dtype).eps / 2
        self.found.append(Node(node.name, piece, inputs, tuple(value.shape[1:]), unit, torch.finfo(value.dtype).tiny))
        return Var(len(self.found) - 1, tuple(value.shape))

    def _refuse(self, node: fx.Node, reason: str) -> NoReturn:
        raise _Refused(node, reason)


def _base(target: Any) -> str:
    """The name of an operator, the same in place and out of place."""
    return str(target).split(".")[1].rstrip("_")


def _module_of(node: fx.Node, model: nn.Module, x: Tensor) -> str:
    """Where in the model the node stands: the same operator is looked for in another run."""
    if node.op != "call_function" or node.target is operator.getitem:
        return ""
    base = _base(node.target)
    same = [
        n
        for n in node.graph.nodes
        if n.op == "call_function" and str(n.target).startswith("aten") and _base(n.target) == base
    ]
    seen = _Seen(base)
    with torch.no_grad(), seen, seen.tracker:
        model(x.clone())
    place = same.index(node)
    return f", in {seen.modules[place]}" if place < len(seen.modules) else ""


class _Seen(TorchDispatchMode):
    """The innermost module at each call of an operator."""

    def __init__(self, base: str):
        super().__init__()
        self.base, self.tracker = base, ModuleTracker()
        self.modules: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if _base(function) == self.base:
            inside = self.tracker.parents - {"Global"}
            self.modules.append(max(inside, key=lambda name: name.count("."), default="the model"))
        return function(*args, **(kwargs or {}))
