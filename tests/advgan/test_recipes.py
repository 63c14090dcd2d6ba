"""Do the recipes do in little what they are for?"""

from dataclasses import replace

from advgan.fit import Samples, fit
from advgan.mixtures import RING, SAMPLES
from advgan.recipes import RECIPES


def test_a_fiftieth_of_the_rings_recipe_finds_all_its_modes(tmp_path):
    """The whole of it is in tests/bench/test_gan_mixtures.py."""
    recipe = replace(RECIPES["ring"], steps=RECIPES["ring"].steps // 50)
    run = fit(recipe, Samples(RING.sample(10_000, seed=0)), tmp_path / "run", every=recipe.steps)
    learnt = RING.measure(run.sample(SAMPLES, seed=1))
    assert learnt.modes == 8
    assert learnt.reverse_kl < 1
