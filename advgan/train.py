"""One step of the game: the critic moves, the generator moves, the average follows.

For every kind of generator `g(x, labels, z) -> fake`: perturbers use x, sample generators ignore it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .objectives import Objective
from .penalties import Draw, Penalty
from .processes import ALONE, Processes

SMALL = 2**13  # numbers in a batch
Adversary = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # (x, fake, labels) -> [b], smaller = fools better


@dataclass
class Players:
    generator: nn.Module
    critic: nn.Module | None  # None: nobody judges, and only an adversary is to be fooled
    generator_opt: torch.optim.Optimizer
    critic_opt: torch.optim.Optimizer | None
    average: nn.Module  # the generator's slow copy, the one to keep; in eval mode, without gradients

    @classmethod
    def new(
        cls,
        generator: nn.Module,
        critic: nn.Module | None,
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.0, 0.99),
    ):
        own, other = (net and torch.optim.Adam(net.parameters(), lr, betas, fused=True) for net in (generator, critic))
        assert own is not None
        return cls(generator, critic, own, other, deepcopy(generator).eval().requires_grad_(False))

    def tune(self, lr: float, betas: tuple[float, float]) -> None:
        """Sets both players' learning rate and Adam's decay rates."""
        for opt in self.opts.values():
            for group in opt.param_groups:
                group.update(lr=lr, betas=betas)

    @property
    def nets(self) -> dict[str, nn.Module]:
        nets = {"generator": self.generator, "critic": self.critic, "average": self.average}
        return {name: net for name, net in nets.items() if net is not None}

    @property
    def opts(self) -> dict[str, torch.optim.Optimizer]:
        opts = {"generator_opt": self.generator_opt, "critic_opt": self.critic_opt}
        return {name: opt for name, opt in opts.items() if opt is not None}


@dataclass(frozen=True, eq=False)
class Game:
    """What is played for. Weights multiply means over the batch."""

    objective: Objective
    penalty: Penalty | None = None
    adversary: Adversary | None = None  # what a perturber must fool, beside the critic
    gan_weight: float = 1.0  # of the critic's judgement, in the generator's loss
    class_weight: float = 1.0  # of the cross entropy, of an auxiliary critic, which has `.classify(x) -> [b, K]`
    autocast: torch.dtype | None = None  # bfloat16: forward passes in it; parameters and losses stay as they are


def train_step(
    players: Players,
    x: Tensor,
    labels: Tensor | None,
    z: Tensor,
    *,
    game: Game,
    draw: Draw = torch.rand,
    decay: float = 0.999,
    processes: Processes = ALONE,
) -> dict[str, Tensor]:
    """Both players move once on x [b, ...] (within the game's bounds), labels [b] or None and z [b, latent].

    The fakes are made once. The critic sees them detached and moves first; the generator, which has not moved since
    it made them, is then judged by the new critic, and by the adversary where there is one. draw: random numbers for
    penalties that need some. decay: the share that the average keeps. Returns scalars on the device; nothing waits
    for it.
    """
    with _precision(game, x):
        fake = players.generator(x, labels, z).to(x.dtype)
    about = {}
    if players.critic is not None:
        about |= critic_phase(players, x, labels, fake, game=game, draw=draw, processes=processes)
    about |= generator_phase(players, x, labels, fake, game=game, processes=processes)
    follow(players.average, players.generator, decay)
    return about


def critic_turn(
    players: Players,
    x: Tensor,
    labels: Tensor | None,
    z: Tensor,
    *,
    game: Game,
    draw: Draw = torch.rand,
    processes: Processes = ALONE,
) -> dict[str, Tensor]:
    """The critic moves alone, as it does between two moves of the generator where it is to have more of them."""
    with torch.no_grad(), _precision(game, x):
        fake = players.generator(x, labels, z).to(x.dtype)
    return critic_phase(players, x, labels, fake, game=game, draw=draw, processes=processes)


def critic_phase(
    players: Players,
    x: Tensor,
    labels: Tensor | None,
    fake: Tensor,
    *,
    game: Game,
    draw: Draw = torch.rand,
    processes: Processes = ALONE,
) -> dict[str, Tensor]:
    """The critic moves; the generator is no part of it, since the fakes are detached here."""
    critic, opt, penalised = players.critic, players.critic_opt, game.penalty is not None
    assert critic is not None
    assert opt is not None
    real, fake = (images.detach().requires_grad_(penalised) for images in (x, fake))
    with _precision(game, x):
        real_scores, fake_scores = (scores.to(x.dtype) for scores in _judged(critic, real, fake, labels))
        loss = game.objective.critic(real_scores, fake_scores).mean()
        price = torch.zeros_like(loss)
        if game.penalty is not None:
            price = game.penalty(critic, real, fake, labels, real_scores, fake_scores, draw).mean()
        classes = _class_loss(critic, real, labels, game)
    descend(opt, loss + price + classes, processes)
    right = (real_scores > fake_scores).to(x.dtype).mean()
    means = {"critic": loss, "penalty": price, "real": real_scores.mean(), "fake": fake_scores.mean(), "right": right}
    return {name: mean.detach() for name, mean in means.items()}


def generator_phase(
    players: Players,
    x: Tensor,
    labels: Tensor | None,
    fake: Tensor,
    *,
    game: Game,
    processes: Processes = ALONE,
) -> dict[str, Tensor]:
    """The generator moves, against a critic and an adversary that stand still."""
    with _precision(game, x):
        terms, courted = {}, torch.zeros((), device=x.device)
        with nullcontext() if players.critic is None else frozen(players.critic):
            if players.critic is not None:
                terms |= _courting(players.critic, x, labels, fake, game)
                courted = game.gan_weight * terms["generator"] + terms["class"]
            if game.adversary is not None:
                terms["fooling"] = game.adversary(x, fake, labels).mean()
            gradients = descend(players.generator_opt, courted + terms.get("fooling", 0.0), processes)
    return {name: term.detach() for name, term in terms.items()} | {"slope": root_mean_square(gradients)}


def _courting(critic: nn.Module, x: Tensor, labels: Tensor | None, fake: Tensor, game: Game) -> dict[str, Tensor]:
    """What the generator pays for how the critic sees its fakes."""
    real_scores = None
    if game.objective.pairs:
        with torch.no_grad():
            real_scores = critic(x, labels).to(x.dtype)
    loss = game.objective.generator(real_scores, critic(fake, labels).to(x.dtype)).mean()
    return {"generator": loss, "class": _class_loss(critic, fake, labels, game)}


def descend(
    opt: torch.optim.Optimizer, loss: Tensor, processes: Processes = ALONE, longest: float | None = None
) -> list[Tensor]:
    """One move, from no gradients to none left behind. Returns those that it went by.

    longest: the norm that all gradients together are cut down to.
    """
    parameters = [p for group in opt.param_groups for p in group["params"] if p.requires_grad]
    for p in parameters:
        p.grad = None
    loss.backward(inputs=parameters)  # not in the samples, which a penalty makes leaves too
    gradients = [p.grad for p in parameters if p.grad is not None]
    processes.average(gradients)
    if longest is not None:
        clip_grad_norm_(parameters, longest)
    opt.step()
    for p in parameters:
        p.grad = None
    return gradients


def follow(average: nn.Module, generator: nn.Module, decay: float) -> None:
    """Parameters are averaged; buffers (running statistics) are copied."""
    with torch.no_grad():
        slow_ones: list[Any] = list(average.parameters())
        get_ema_multi_avg_fn(decay)(slow_ones, list(generator.parameters()), None)
        for slow, fast in zip(average.buffers(), generator.buffers(), strict=True):
            slow.copy_(fast)


def decay_for(half_life: float, seen: int, batch: int, ramp: float = 0.05) -> float:
    """What the average keeps in a step, so that an old value weighs half after `half_life` samples.

    Early on the half-life is `ramp` times the samples seen, so that the start is soon forgotten.
    """
    life = min(half_life, ramp * seen)
    return 0.5 ** (batch / life) if life > 0 else 0.0


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """No gradients for its parameters within; their flags are as before afterwards."""
    flags = [(p, p.requires_grad) for p in net.parameters()]
    for p, _ in flags:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p, flag in flags:
            p.requires_grad_(flag)


@contextmanager
def evaluating(net: nn.Module) -> Iterator[nn.Module]:
    """In eval mode within; each module's mode is as before afterwards."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield net
    finally:
        for module, training in modes:
            module.training = training


def root_mean_square(tensors: list[Tensor]) -> Tensor:
    """Over all their entries; 0 for none."""
    if not tensors:
        return torch.zeros(())
    return get_total_norm(tensors) / sum(tensor.numel() for tensor in tensors) ** 0.5


def _judged(critic: nn.Module, real: Tensor, fake: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """The scores of both, in one pass where samples are so small that each operation costs more than its arithmetic."""
    if real.numel() > SMALL:
        return critic(real, labels), critic(fake, labels)
    both = None if labels is None else torch.cat((labels, labels))
    real_scores, fake_scores = critic(torch.cat((real, fake)), both).chunk(2)
    return real_scores, fake_scores


def _class_loss(critic: nn.Module, images: Tensor, labels: Tensor | None, game: Game) -> Tensor:
    """An auxiliary critic learns the classes from real samples, and the generator is to make what it recognises."""
    if labels is None or getattr(critic, "conditioning", None) != "auxiliary":
        return images.new_zeros(())
    classify: Any = critic.classify
    return game.class_weight * cross_entropy(classify(images).to(images.dtype), labels)


def _precision(game: Game, x: Tensor):
    return nullcontext() if game.autocast is None else torch.autocast(x.device.type, game.autocast)
