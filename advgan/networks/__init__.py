"""Which two networks play: a generator and a critic of one kind, for samples of one shape."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from attacks.errors import InputError, unknown

from . import dcgan, fourier, mlp, resnet
from .players import CONDITIONINGS, Critic, Generator, seen

__all__ = ["CONDITIONINGS", "KINDS", "Critic", "Generator", "Kind", "build"]


@dataclass(frozen=True)
class Kind:
    """The makers of one kind's two networks, and the sizes that they are given where the caller names none."""

    generator: Callable[..., nn.Module]  # (entries, shape, *sizes)
    critic: Callable[..., tuple[nn.Module, int]]  # (shape, *sizes)
    width: int
    depth: int | None  # hidden layers of the mlp, blocks a side of the resnet; None: the shape alone decides


KINDS = {
    "mlp": Kind(mlp.generator, mlp.critic, width=128, depth=3),
    "fourier": Kind(fourier.generator, fourier.critic, width=64, depth=3),
    "dcgan": Kind(dcgan.generator, dcgan.critic, width=32, depth=None),
    "resnet": Kind(resnet.generator, resnet.critic, width=32, depth=1),
}


def build(
    kind: str,
    shape: tuple[int, ...],
    latent: int,
    classes: int | None = None,
    *,
    width: int | None = None,
    depth: int | None = None,
    conditioning: str = "projection",
    seed: int = 0,
) -> tuple[Generator, Critic]:
    """The pair, in float32 on the CPU, the same for the same seed; torch's global random state is left as it was.

    kind: mlp, fourier, dcgan or resnet. shape: of one sample, [D] or [channels, side, side]; dcgan and resnet are for
    squares whose side is a multiple of 4. latent: length of z. classes: None where there are none.
    width, depth: as the kind's own file says; None for what KINDS says. conditioning: of the critic, see CONDITIONINGS.
    Raises InputError for an unknown name, and for a shape or size that the kind cannot have.
    """
    if kind not in KINDS:
        raise unknown("kind of network", kind, KINDS)
    if conditioning not in CONDITIONINGS:
        raise unknown("conditioning", conditioning, CONDITIONINGS)
    made, shape = KINDS[kind], tuple(shape)
    if depth is not None and made.depth is None:
        raise InputError(f"A depth of {depth} was asked for, but the shape decides how deep a {kind} is. Leave it out.")
    sizes = [made.width if width is None else width]
    if made.depth is not None:
        sizes.append(made.depth if depth is None else depth)
    _check(shape, latent, classes, sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = made.generator(latent + (classes or 0), shape, *sizes)
        body, features = made.critic(seen(shape, classes, conditioning), *sizes)
        return Generator(net, shape, latent, classes), Critic(body, features, classes, conditioning)


def _check(shape: tuple[int, ...], latent: int, classes: int | None, sizes: list[int]) -> None:
    if len(shape) not in (1, 3) or min(shape) < 1:
        raise InputError(f"Samples of shape {list(shape)} were asked for; [D] and [channels, side, side] can be made.")
    if latent < 1 or min(sizes) < 1:
        raise InputError(f"Latent {latent} and sizes {sizes} were asked for; each must be at least 1.")
    if classes is not None and classes < 2:
        raise InputError(
            f"{classes} classes were asked for; give at least 2, or None for a pair that knows no classes."
        )
