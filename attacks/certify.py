"""Which rows no attack can break: lower bounds on the margin of a model over all that a threat allows."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from .api import as_threat, check_inputs, device_of
from .bounds.crown import Bounds
from .bounds.graph import Graph
from .bounds.region import Region
from .errors import InputError, unknown
from .threat import Goal, ThreatModel
from .victim import Victim, borrowed

Method = Literal["crown", "intervals"]


@dataclass(frozen=True)
class Certificate:
    """One row per example, in the order given, on the device of x.

    certified: [B] bool, no input of the threat set makes another logit as large as the label's.
    margin: [B] float64, a lower bound on the label's logit minus the largest other one over the threat set; -inf where
        nothing is known.
    """

    certified: Tensor
    margin: Tensor


def certify(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    threat: str | ThreatModel,
    *,
    method: Method = "crown",
    batch_size: int = 64,
) -> Certificate:
    """Bound the margin of each row of x [B, ...] from below, by CROWN (arXiv 1811.00866) or by intervals alone.

    model: gives logits [b, K]; what it may be made of is listed in attacks/bounds/operators/. It is bounded in eval
        mode and left as it was.
    threat: text such as "linf:8/255", or a `ThreatModel`; any of the four norms, cut by bounds and mask. `levels` are
        taken for continuous, which allows the attacker more.
    method: "crown", never worse than "intervals", which cost about as much as three forward passes in float64.
    batch_size: rows at a time; the result does not depend on it.

    The bounds are computed in float64 and hold for the model in its own arithmetic, in whichever order it adds up, as
    long as each operation rounds once to the type of its output; not for TF32 or for Winograd convolutions.
    Raises InputError where the model holds what cannot be bounded, with the node, or the input cannot be used.
    """
    if method not in get_args(Method):
        raise unknown("method", str(method), get_args(Method))
    threat = as_threat(threat)
    check_inputs(x, None, batch_size)
    Goal(labels).check(len(x))
    victim = Victim(model)
    home, device = x.device, device_of(model, x.device)
    margins = []
    with borrowed(model):
        graph = Graph.of(model, x.to(device))
        Goal(labels).check(len(x), graph.nodes[-1].shape[0])
        for start in range(0, len(x), batch_size):
            rows = slice(start, start + batch_size)
            part = x[rows].detach().to(device, copy=True)
            _check_graph(graph, victim, part)
            region = Region.of(threat.keep(rows, x).around(part))
            bounds = Bounds.of(graph, region, tighten=method == "crown")
            margins.append(_margin(bounds, labels[rows].to(device), method == "crown"))
    margin = torch.cat(margins).to(home)
    return Certificate(margin > 0, margin)


def _margin(bounds: Bounds, labels: Tensor, crown: bool) -> Tensor:
    """[b] lower bound of the label's logit minus the largest other one."""
    b, classes = len(labels), bounds.graph.nodes[-1].shape[0]
    rows = torch.arange(b, device=labels.device).repeat_interleave(classes - 1)
    others = torch.arange(classes, device=labels.device).expand(b, -1)
    others = others[others != labels[:, None]]
    form = torch.zeros(len(rows), classes, dtype=torch.float64, device=labels.device)
    form.scatter_(1, others[:, None], -1.0).scatter_(1, labels[rows][:, None], 1.0)
    last = len(bounds.graph.nodes) - 1
    each = []
    for part in torch.arange(len(rows), device=labels.device).split(bounds.together(last)):
        walks = [bounds.least(last, form[part], rows[part], back) for back in ((True, False) if crown else (False,))]
        each.append(torch.stack(walks).nan_to_num(-torch.inf, torch.inf).amax(0))
    return torch.cat(each).view(b, classes - 1).amin(1)


def _check_graph(graph: Graph, victim: Victim, x: Tensor) -> None:
    """Raises InputError where the model does not give what its graph gives, to rounding."""
    flat = x.double().flatten(1)
    bounds = Bounds.of(graph, Region("linf", flat, flat.new_zeros(len(x)), flat, flat, 0.0), tighten=False)
    logits = victim.logits(x)
    if not bool(((logits >= bounds.low[-1]) & (logits <= bounds.high[-1])).all()):
        raise InputError(
            "The model cannot be bounded: it does not give again what it gave when it was traced. "
            "Its logits must depend on the row alone, and not on chance, other rows or earlier calls."
        )
