"""A small generator of perturbations, trained within a second, for the tests that run over every attack."""

from functools import cache

import torch
from surrogate import Resembling
from torch import nn

from advgan.fooling import Adversary, Margin
from advgan.networks.perturber import Constant
from advgan.perturber import Generated, Perturber
from attacks import CATALOG, linf

SHAPE, CLASSES, LATENT, HIDDEN = (3, 8, 8), 10, 2, 6
STEPS, BATCH = 120, 64


class Summing(nn.Module):
    """One answer for each class and what x and z add; each row by elementwise products and sums: no batch, no bit."""

    def __init__(self):
        super().__init__()
        self.common = Constant(SHAPE, CLASSES)
        self.read = nn.Parameter(torch.randn(HIDDEN, 192) / 192**0.5)
        self.draw = nn.Parameter(torch.randn(HIDDEN, LATENT))
        self.write = nn.Parameter(torch.randn(192, HIDDEN) / HIDDEN)

    def forward(self, x, told, z):
        hidden = (x.flatten(1)[:, None, :] * self.read).sum(2) + (z[:, None, :] * self.draw).sum(2)
        hidden = hidden / (1 + hidden.abs())
        return self.common(x, told, z) + (hidden[:, None, :] * self.write).sum(2).view_as(x)


@cache
def generated() -> Generated:
    """Against the surrogate of both victims of test_every_attack.py."""
    victim = Resembling().requires_grad_(False)
    with torch.random.fork_rng([]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(0)
        perturber = Perturber(Summing(), linf(0.05), SHAPE, CLASSES, LATENT)
        adversary = Adversary((victim,), Margin(5.0))
        optimiser = torch.optim.Adam(perturber.parameters(), 0.02)
        for _ in range(STEPS):
            x = torch.rand(BATCH, *SHAPE)
            labels = victim(x).argmax(1)
            optimiser.zero_grad()
            adversary(x, perturber(x, labels, torch.randn(BATCH, LATENT)), labels).mean().backward()
            optimiser.step()
    return Generated(perturber.eval())


EVERY = {**CATALOG, "generated": generated}
