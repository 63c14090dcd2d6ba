"""What a script has at hand, made into what the loop takes: names, modules and plain tensors are accepted here."""

from numbers import Integral
from typing import get_args

import torch
from torch import Tensor, nn

from . import loop
from .catalog import attack_named
from .errors import InputError, unknown
from .loop import Attack, Until
from .result import Result
from .threat import Goal, ThreatModel
from .victim import Victim


def run(
    attack: str | Attack,
    victim: nn.Module | Victim,
    x: Tensor,
    goal: Tensor | Goal,
    threat: str | ThreatModel,
    *,
    seed: int = 0,
    ids: Tensor | None = None,
    until: Until | None = None,
    batch_size: int | None = None,
    compact_below: float = 0.75,
    max_queries: int | None = None,
    max_backwards: int | None = None,
    watch: bool = False,
) -> Result:
    """Attack every row of x [B, ...] and say, row by row, what was found and what it cost.

    attack: a name in `attacks.CATALOG`, or an attack.
    victim: a module that gives logits [b, K], or a `Victim` that says what it reveals. It is put in eval mode for the
        attack and left exactly as it was.
    x: float32 or float64, finite, within the threat's bounds; moved to the model's device if it is on another.
    goal: class numbers [B] int64 (untargeted), or a `Goal`.
    threat: text such as "linf:8/255" (bounds 0 to 1), or a `ThreatModel`; eps is in the units of x.
    seed, ids: a row's random numbers depend on the seed and its id [B] int64 (default: its place in x) alone, so the
        result depends neither on the batch size nor on the order.
    until: "first" stops a row at its first success, "smallest" goes on; None asks the attack.
    batch_size: rows per batch; None is all at once.
    max_queries, max_backwards: forwards (the clean one included) and gradients that a row may cost; there it stops.
    watch: also keep what the loop saw on the way (`Result.seen`, of which `attacks.doubts.doubts` makes reasons not to
        believe a row that stands). It costs no pass and changes nothing else; some attacks need it and have it anyway.

    Raises InputError where the input cannot be used: its message says what is there and what to do.
    """
    attack = _attack(attack)
    victim = victim if isinstance(victim, Victim) else Victim(victim)
    goal = goal if isinstance(goal, Goal) else Goal(goal)
    threat = as_threat(threat)
    check_inputs(x, ids, batch_size)
    _check_options(seed, until, max_queries, max_backwards)
    goal.check(len(x))
    home = x.device
    device = device_of(victim.model, home)
    ids = torch.arange(len(x)) if ids is None else ids
    results = []
    size = batch_size or len(x)
    with (
        torch.inference_mode(False),
        torch.no_grad(),
    ):  # what is made under inference mode could not be changed in place
        for first in range(0, len(x), size):
            part = slice(first, first + size)
            results.append(
                loop.run(
                    attack,
                    victim,
                    x[part].detach().to(device, copy=True),
                    goal.keep(part).to(device),
                    threat.keep(part, x),
                    until=until,
                    seed=seed,
                    ids=ids[part].to(device),
                    compact_below=compact_below,
                    max_queries=max_queries,
                    max_backwards=max_backwards,
                    watch=watch,
                ).to(home)
            )
        return Result.joined(results)


def _attack(attack: str | Attack) -> Attack:
    if isinstance(attack, str):
        return attack_named(attack)
    if isinstance(attack, type) or not hasattr(attack, "search"):
        name = getattr(attack, "__name__", type(attack).__name__)
        raise InputError(
            f"The attack is {name}, which has no search of its own; a name in attacks.CATALOG or an attack is needed. "
            "A class or function of this library makes one when it is called: attacks.APGD()."
        )
    return attack


def as_threat(threat: str | ThreatModel) -> ThreatModel:
    if isinstance(threat, str):
        return ThreatModel.parse(threat)
    if not isinstance(threat, ThreatModel):
        raise InputError(
            f"The threat is {threat!r}; text like linf:8/255 or a ThreatModel like attacks.l2(0.5) is needed."
        )
    return threat


def check_inputs(x: Tensor, ids: Tensor | None, batch_size: int | None) -> None:
    if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64):
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"Inputs are {kind}; float32 or float64 tensors are needed (8-bit images: x.float() / 255).")
    if x.ndim < 2 or x.numel() == 0:
        raise InputError(f"Inputs are {tuple(x.shape)}; at least one example [B, ...] is needed.")
    if ids is not None and not isinstance(ids, Tensor):
        raise InputError(f"ids are {type(ids).__name__}; a tensor, int64 [{len(x)}], is needed, one per input.")
    if ids is not None and (ids.dtype != torch.int64 or ids.shape != (len(x),)):
        raise InputError(f"ids are {ids.dtype} {tuple(ids.shape)}; int64 [{len(x)}] is needed, one per input.")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size={batch_size}; at least one row a batch is needed.")


def _check_options(seed: int, until: str | None, max_queries: int | None, max_backwards: int | None) -> None:
    if not isinstance(seed, Integral) or not -(2**63) <= seed < 2**64:
        raise InputError(f"seed={seed!r}; a whole number of 64 bits is needed.")
    if until is not None and until not in get_args(Until):
        raise unknown("value of until", str(until), get_args(Until))
    if max_queries is not None and max_queries < 1:
        raise InputError(f"max_queries={max_queries}; the clean input alone takes one.")
    if max_backwards is not None and max_backwards < 0:
        raise InputError(f"max_backwards={max_backwards}; 0 or more is needed.")


def device_of(model: nn.Module, otherwise: torch.device) -> torch.device:
    tensors = (*model.parameters(), *model.buffers())
    return tensors[0].device if tensors else otherwise
