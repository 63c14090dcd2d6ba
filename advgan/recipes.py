"""Which recipe is usual for which data? The README says what came of each."""

from dataclasses import replace

from .recipe import Recipe
from .schedules import Schedule

# Narrow modes want a critic that may at last be steep, so the penalty fades; deep networks, and latents beyond the
# plane's two, which are signs, since a generator must jump from mode to mode; and a learning rate that ends near 0,
# since the modes are narrower than its steps are long.
MODES = Recipe(
    network="fourier",
    width=64,
    depth=6,
    steps=20_000,  # with more, modes of the ring shrink towards points
    batch=256,  # half as many make the modes too narrow
    lr=Schedule(2e-3, 1e-5),
    beta2=Schedule(0.95, 0.999),
    half_life=50_000,
)

RECIPES = {
    "ring": replace(MODES, latent=2 + 3, penalty_weight=Schedule(0.05, 0.001)),
    "grid": replace(MODES, latent=2 + 5, steps=18_000, batch=512, penalty_weight=Schedule(0.4, 0.008)),
    "digits": Recipe(network="dcgan", width=32, conditional=True, steps=5000),
    "images": Recipe(network="dcgan", width=32, conditional=True, steps=4000),
}
