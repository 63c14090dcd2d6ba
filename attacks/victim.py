"""The model under attack, seen through what the attacker may ask of it."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from . import kernels
from .errors import InputError
from .losses import Climb, Loss
from .passes.forms import Form
from .passes.layers import heard
from .passes.recorded import Replayed
from .passes.searched import Searched
from .passes.tape import Forward, Plain, Tape, forward_of
from .threat import Goal


class Access(IntEnum):
    """What one query reveals. Each level includes the ones below it; who is shown gradients may look inside, too."""

    DECISION = 0
    SCORES = 1
    GRADIENT = 2


FOLDERS = {Access.DECISION: "decision", Access.SCORES: "score"}


class Query(NamedTuple):
    """Candidates to show the model: x is [b, ...], or [q, b, ...] with many=True (q tries per row).

    loss: what to climb, for access SCORES (its value) and GRADIENT (its value and gradient).
    layer: whose output is asked for, instead of a gradient.
    """

    x: Tensor
    access: Access
    loss: Loss | None = None
    many: bool = False
    layer: str | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> "Query":
        """Its tensor changed, rows first; so it is cut as an `attacks.columns.PerRow` is."""
        if not self.many:
            return self._replace(x=change(self.x))
        return self._replace(x=change(self.x.transpose(0, 1)).transpose(0, 1).contiguous())


def decision(x: Tensor, many: bool = False) -> Query:
    return Query(x, Access.DECISION, many=many)


def scores(x: Tensor, loss: Loss | None = None, many: bool = False) -> Query:
    return Query(x, Access.SCORES, loss, many)


def gradient(x: Tensor, loss: Loss, many: bool = False) -> Query:
    return Query(x, Access.GRADIENT, loss, many)


def features(x: Tensor, layer: str) -> Query:
    """What the layer, as `named_modules` gives it, makes of x [b, ...]: a pass like any other, and counted."""
    return Query(x, Access.GRADIENT, layer=layer)


class Spent(Exception):  # noqa: N818  # no error: a budget that is used up
    """The gradients that a row may take are used up. The loop catches it; an attack never does."""


class Answer:
    """What the model let out. Where the query showed many tries per row, each shape below has q in front."""

    def __init__(
        self,
        fooled: Tensor,
        logits: Tensor | None = None,
        climb: Climb | None = None,
        passed: Tape | Replayed | None = None,
        tries: int | None = None,
        features: Tensor | None = None,
    ):
        self.fooled = fooled  # [b] bool: the goal is reached
        self.logits = logits  # [b, K], detached; None for a decision
        self.features = features  # [b, ...], detached, of the layer that the query named
        self.backwards = 0  # gradients taken so far
        self.allowed = math.inf  # gradients that may be taken
        self.pulled: tuple[Tensor, Tensor] | None = None  # the first gradient taken and its slope, of single tries
        self._climb = climb  # of the tries laid end to end
        self._passed = passed  # what gradients are taken of, laid end to end too
        self._tries = tries

    @property
    def loss(self) -> Tensor:
        """[b] value of the query's loss."""
        assert self._climb is not None, "the query named no loss"
        return self._apart(self._climb.value)

    def grad(self) -> Tensor:
        """The direction in which the loss rises: d loss[i] / d x[i] divided by the row's largest slope in the logits.

        Shaped like x. The divisor keeps a saturated softmax from underflowing on its way back (it is 1 for the margin,
        so that there the gradient is exact); steps use the direction alone. Entries that are not finite become 0.
        """
        assert self._climb is not None, "the query named no loss"
        return self._apart(self._pulled(kernels.over_largest(self._climb.slope), keep=False))

    def grad_of(self, slope: Tensor) -> Tensor:
        """The exact gradient of sum_k slope[i, k] logits[i, k], shaped like x; slope is [b, K]. May be asked again."""
        return self._apart(self._pulled(slope if self._tries is None else slope.flatten(0, 1), keep=True))

    def _pulled(self, slope: Tensor, keep: bool) -> Tensor:
        assert self._passed is not None, "the query asked for no gradient"
        cost = self._tries or 1
        if self.backwards + cost > self.allowed:
            raise Spent
        self.backwards += cost
        grad = self._passed.pull(slope, keep)
        if self.pulled is None and self._tries is None:
            self.pulled = slope, grad
        return grad

    def _apart(self, values: Tensor) -> Tensor:
        return values if self._tries is None else values.unflatten(0, (self._tries, -1))


class AccessError(InputError):
    """An attack asked for more than the victim reveals."""


@dataclass(frozen=True)
class Victim:
    """model: gives logits [b, K] for inputs [b, ...] within the threat's bounds, each row on its own.

    passes: for a randomised model, the fresh passes that judge a success: a candidate that reaches the goal once
        counts if it reaches it in more than half of them. They are counted as queries of that row.
    graph: on a GPU, passes are recorded as CUDA graphs and replayed, where that is safe.
    precision, channels_last, compile, fold_batchnorm: search with a cheaper form of the model, as `attacks.Form` says.
        It is made of the weights that the model has at first. Each success that it claims costs a query of the model
        itself, which alone decides; a form that cannot be had or answers otherwise is left.
    `searched.notes` says what was left, and why.
    """

    model: nn.Module
    access: Access = Access.GRADIENT
    passes: int = 1
    graph: bool = True
    precision: str | None = None
    channels_last: bool = False
    compile: bool = False
    fold_batchnorm: bool = False

    def __post_init__(self):
        if not isinstance(self.model, nn.Module):
            raise InputError(
                f"The victim is {type(self.model).__name__}; a torch.nn.Module is needed. "
                "Wrap a plain function in attacks.models.FromCallable."
            )
        if not isinstance(self.access, Access):
            raise InputError(f"access={self.access!r}; attacks.Access.DECISION, SCORES or GRADIENT is needed.")
        if self.passes < 1:
            raise InputError(f"passes={self.passes}: a success is judged on at least one pass.")
        if self.form and self.passes > 1:
            raise InputError(f"A randomised model (passes={self.passes}) is searched as it is, not {self.form}.")

    @classmethod
    def in_form(cls, model: nn.Module, form: Form, access: Access = Access.GRADIENT) -> "Victim":
        """Searched in that form."""
        return cls(model, access, **vars(form))

    @property
    def form(self) -> Form:
        return Form(self.precision, self.channels_last, self.compile, self.fold_batchnorm)

    def answer(self, query: Query, goal: Goal, aim: Goal) -> Answer:
        self.check(query.access)
        if query.layer is not None:
            return self._from_inside(query.x, query.layer, goal)
        tries = len(query.x) if query.many else None
        x, same = query.x, aim is goal
        if tries is not None:
            x, goal, aim = x.flatten(0, 1), goal.repeat(tries), aim.repeat(tries)
        passed = self.searched.passed(x, query.access is Access.GRADIENT, query.many)
        logits = passed.logits
        climb = None if query.loss is None else query.loss(_full(logits), aim)
        fooled = climb.reached if climb is not None and same else judged(logits, goal)
        if tries is not None:
            fooled, logits = (values.unflatten(0, (tries, -1)) for values in (fooled, logits))
        shown = None if query.access is Access.DECISION else logits
        return Answer(fooled, shown, climb, passed if query.access is Access.GRADIENT else None, tries)  # type: ignore[arg-type]

    def _from_inside(self, x: Tensor, layer: str, goal: Goal) -> Answer:
        """By the model itself, in whichever form it is searched."""
        logits, features = heard(self.model, layer, lambda: self.logits(x))
        # A wrapper may have shown the model more rows than it was given.
        return Answer(judged(logits, goal), logits, features=features.detach()[: len(x)])

    @cached_property
    def searched(self) -> Searched:
        """What searches pass through; runs share it."""
        return Searched(self.model, self.form, record=self.graph and self.passes == 1)

    def check(self, needed: Access) -> None:
        """Raises AccessError where that much is not revealed."""
        if needed > self.access:
            raise AccessError(
                f"This attack needs {needed.name}, the victim reveals {self.access.name}. "
                f"Attacks that need no more are in attacks/{FOLDERS[self.access]}/."
            )

    def confirmed(self, x: Tensor, goal: Goal) -> Tensor:
        """[b] bool: the goal is reached in more than half of `passes` fresh passes."""
        votes = sum(judged(self.logits(x), goal).long() for _ in range(self.passes))
        return torch.as_tensor(2 * votes > self.passes)

    @cached_property
    def _forward(self) -> Forward:
        return forward_of(self.model)

    def logits(self, x: Tensor) -> Tensor:
        """[b, K], without a graph."""
        return Plain(self._forward, x).logits

    def differentiable(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The leaf and the logits [b, K] with their graph."""
        tape = Tape(self._forward, x)
        return tape.leaf, tape.attached


def judged(logits: Tensor, goal: Goal) -> Tensor:
    """[b] bool: the goal is reached, all logits are finite, and rounding cannot undo it."""
    return kernels.verdict(_full(logits), goal.labels, goal.targeted)


def check_logits(logits: Tensor) -> None:
    """Raises InputError where the answers to clean inputs are not logits [b, K >= 2]."""
    if not bool(logits.isfinite().all()):
        bad = int((~logits.isfinite()).any(1).sum())
        masked = bool((logits.isfinite() | logits.isneginf()).all())
        hint = " Where -inf leaves a class out, -1e9 does so too." if masked else ""
        raise InputError(
            f"The model gives NaN or inf for {bad} of {len(logits)} clean inputs; mend the model first.{hint}"
        )
    if are_probabilities(logits):
        raise InputError(
            "The model returns probabilities (no entry is negative and each row sums to 1); attacks need logits. "
            "Drop the softmax, or wrap the model in attacks.models.LogProbabilities."
        )


def are_probabilities(scores: Tensor) -> bool:
    """Whether no entry [b, K] is negative and each row sums to 1."""
    return bool((scores >= 0).all()) and bool(((scores.double().sum(1) - 1).abs() < 1e-3).all())


@contextlib.contextmanager
def borrowed(model: nn.Module, seed: int = 0) -> Iterator[None]:
    """The model in eval mode and free of parameter gradients; on leaving, everything is put back as it was.

    Put back: the training flag of each submodule, requires_grad of each parameter, each buffer's contents, and the
    random state of the caller (inside, a model that draws random numbers draws them from `seed`).
    """
    flags = [(module, module.training) for module in model.modules()]
    # An inference tensor takes part in no gradient, and its flag cannot be set again.
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters() if not parameter.is_inference()]
    named = [(module._buffers, name, buffer) for module, _ in flags for name, buffer in module._buffers.items()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.is_cuda}
    with torch.random.fork_rng(devices), torch.inference_mode(False), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        try:
            for module, _ in flags:
                module.training = False
            for parameter, _ in wanted:
                parameter.requires_grad_(False)
            yield
        finally:
            for module, flag in flags:
                module.training = flag
            for parameter, flag in wanted:
                parameter.requires_grad_(flag)
            for holder, name, buffer in named:
                holder[name] = buffer  # a forward pass may have put another tensor in its place
            for buffer, contents in buffers:
                if not torch.equal(buffer, contents):
                    buffer.copy_(contents)


def _full(logits: Tensor) -> Tensor:
    """At least float32: bfloat16 has too few digits to compare logits in."""
    return logits if logits.dtype == torch.float64 else logits.float()
