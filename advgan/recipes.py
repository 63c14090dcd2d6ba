"""Which recipe is usual for which data? The README says what came of each."""

from dataclasses import replace

from .recipe import Recipe
from .schedules import Schedule

# Narrow modes want a critic that may at last be steep, so the penalty fades; deep networks, and latents beyond the
# plane's two, which are signs, since a generator must jump from mode to mode. A high learning rate makes the jumps
# steep; meanwhile modes wander by more than their width, which the critic takes for width, and so they are made too
# narrow. That heals at low rates, where a geometric fall spends its time. It does not where several pieces of a
# generator share one mode, each by itself: points apart are as wide. So signs are not so loud as to part them all.
FALLING = Schedule(2e-3, 2e-5, shape="geometric")
MODES = Recipe(
    network="fourier",
    width=64,
    depth=6,
    steps=24_000,
    batch=256,
    lr=replace(FALLING, held=0.15),
    beta2=Schedule(0.95, 0.999),
    half_life=50_000,
)

RECIPES = {
    "ring": replace(MODES, latent=2 + 3, penalty_weight=Schedule(0.05, 0.001)),
    "grid": replace(
        MODES,
        latent=2 + 7,
        steps=20_000,
        batch=512,
        lr=replace(FALLING, held=0.07),
        penalty_weight=Schedule(0.4, 0.008),
    ),
    "digits": Recipe(network="dcgan", width=32, conditional=True, steps=5000),
    "images": Recipe(network="dcgan", width=32, conditional=True, steps=4000),
}
