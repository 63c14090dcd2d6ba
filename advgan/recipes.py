"""Which recipe is usual for which data? Each was tried: tests/bench/results.csv says on what, and what came of it."""

from .recipe import Recipe

RECIPES = {
    "digits": Recipe(network="dcgan", width=32, conditional=True, steps=5000),
    "images": Recipe(network="dcgan", width=32, conditional=True, steps=4000),
}
