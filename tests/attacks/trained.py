"""Small generators of perturbations, trained within a second, for the tests that run over every attack."""

from functools import cache, partial

import torch
from surrogate import Resembling
from torch import nn

from advgan.fooling import Adversary, Margin
from advgan.networks.perturber import Constant
from advgan.perturber import Generated, Perturber, Reads
from attacks import CATALOG, ThreatModel

SHAPE, CLASSES, LATENT, HIDDEN = (3, 8, 8), 10, 2, 6
STEPS, BATCH = 120, 64


class Summing(nn.Module):
    """One answer for each class and what x and z add; each row by elementwise products and sums: no batch, no bit."""

    def __init__(self, shape, classes, read):
        super().__init__()
        self.shape, self.common = shape, Constant(shape, classes)
        count = torch.Size(shape).numel()
        self.read = nn.Parameter(torch.randn(HIDDEN, read) / read**0.5)
        self.draw = nn.Parameter(torch.randn(HIDDEN, LATENT))
        self.write = nn.Parameter(torch.randn(count, HIDDEN) / HIDDEN)

    def forward(self, x, told, z):
        hidden = (x.flatten(1)[:, None, :] * self.read).sum(2) + (z[:, None, :] * self.draw).sum(2)
        hidden = hidden / (1 + hidden.abs())
        return self.common(x, told, z) + (hidden[:, None, :] * self.write).sum(2).view(-1, *self.shape)


def against(victim, shape=SHAPE, classes=CLASSES, *, features=False, threat="linf:0.05", steps=STEPS) -> Generated:
    """features: it reads the victim's logits, and not the input."""
    victim = victim.requires_grad_(False)
    with torch.random.fork_rng([]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(0)
        count = classes if features else torch.Size(shape).numel()
        net, reads = Summing(shape, classes, count), Reads("", (classes,)) if features else None
        perturber = Perturber(net, ThreatModel.parse(threat), shape, classes, LATENT, reads=reads)
        if features:
            perturber.watches(victim)
        adversary = Adversary((victim,), Margin(5.0))
        optimiser = torch.optim.Adam(perturber.parameters(), 0.02)
        for _ in range(steps):
            x = torch.rand(BATCH, *shape)
            labels = victim(x).argmax(1)
            optimiser.zero_grad()
            adversary(x, perturber(x, labels, torch.randn(BATCH, LATENT)), labels).mean().backward()
            optimiser.step()
    return Generated(perturber.eval())


@cache
def generated(features=False) -> Generated:
    """Against the surrogate of both victims of test_every_attack.py."""
    return against(Resembling(), features=features)


GENERATED = {"generated": generated, "generated_features": partial(generated, features=True)}
EVERY = {**CATALOG, **GENERATED}
