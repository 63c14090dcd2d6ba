"""Is the game on the line measured rightly, and does its recipe end where the theory says?"""

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor, nn

from advgan.fit import fit
from advgan.gaussian import BINS, COUNT, DEVIATION, MEAN, jensen_shannon, load_looks, look, measure, recipe, samples
from advgan.objectives import OBJECTIVES
from advgan.theory import EQUILIBRIUM, KnownGame, normal
from attacks.errors import InputError


class Known(nn.Module):
    """The best critic of `Minimax` against fakes from N(mean, deviation^2)."""

    def __init__(self, mean: float, deviation: float):
        super().__init__()
        self.device = nn.Parameter(torch.zeros(1))
        self.ratio = KnownGame(normal(MEAN, DEVIATION), normal(mean, deviation), -9, 11).log_ratio

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        return torch.from_numpy(self.ratio(x[:, 0].double().numpy()))


def seen(mean: float = MEAN, deviation: float = DEVIATION, objective: str = "minimax"):
    fakes = mean + deviation * torch.randn(COUNT, generator=torch.Generator().manual_seed(5))
    return look(7, fakes, Known(mean, deviation), OBJECTIVES[objective])


def test_samples_are_of_the_density_that_they_are_compared_with():
    x = samples().x
    assert x.shape == (COUNT, 1)
    assert kstest(x[:, 0].numpy(), "norm", (MEAN, DEVIATION)).pvalue > 0.01
    assert not samples(seed=1).x.equal(x)


def test_at_equilibrium_js_is_what_sampling_adds_and_the_rest_is_exact():
    one = seen()
    assert one.js == pytest.approx((np.count_nonzero(one.fake) - 1) / (8 * COUNT), rel=0.6)
    assert one.value == pytest.approx(EQUILIBRIUM, abs=1e-9)
    assert one.critic_mean == 0.5
    assert one.critic_error == 0
    assert one.at_equilibrium


@pytest.mark.parametrize(("mean", "deviation"), [(MEAN + 0.5, DEVIATION), (MEAN, 2 * DEVIATION), (MEAN - 1, 0.3)])
def test_away_from_equilibrium_js_and_value_are_those_of_the_theory(mean, deviation):
    one, game = seen(mean, deviation), KnownGame(normal(MEAN, DEVIATION), normal(mean, deviation), -9, 11)
    assert one.js == pytest.approx(game.js(), abs=0.003)
    assert one.value == pytest.approx(game.best_value(), abs=0.006)
    assert one.critic_mean == pytest.approx(0.5, abs=0.003)
    assert np.nanmax(np.abs(one.critic - one.best)[one.real + one.fake > 0.05]) < 0.1
    assert not one.at_equilibrium


def test_each_fake_is_in_a_bin_wherever_it_lies():
    one = look(0, torch.tensor([-1e6, 1e6, MEAN]).repeat(100), Known(MEAN, DEVIATION), OBJECTIVES["minimax"])
    width = one.x[1] - one.x[0]
    assert len(one.x) == BINS
    assert one.fake.sum() * width == pytest.approx(1)
    assert one.fake[0] * width == one.fake[-1] * width == pytest.approx(1 / 3)
    assert one.real.sum() * width == pytest.approx(1)


def test_js_of_bins_is_0_for_equal_and_ln_2_for_disjoint_ones():
    assert jensen_shannon(np.array([0.2, 0.8, 0]), np.array([0.2, 0.8, 0])) == 0
    assert jensen_shannon(np.array([1.0, 0]), np.array([0, 1.0])) == pytest.approx(math.log(2))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_can_be_looked_at(objective):
    one = seen(MEAN + 0.5, DEVIATION, objective)
    assert all(math.isfinite(value) for value in one.numbers().values())
    assert np.isnan(one.best).all() == (objective == "wasserstein")


def test_looks_are_kept_in_the_order_of_their_steps_and_read_as_they_were(tmp_path):
    class Standing:
        folder, recipe, step = tmp_path, recipe(), 0

        def sample(self, n, labels=None, seed=0):
            return MEAN + DEVIATION * torch.randn(n, 1, generator=torch.Generator().manual_seed(seed))

    run = Standing()
    for run.step in (0, 900, 100):
        told = measure(run, Known(MEAN, DEVIATION))
    read = load_looks(tmp_path)
    assert [one.step for one in read] == [0, 100, 900]
    assert read[1].numbers() == told
    assert {"js", "value", "critic_mean"} <= set(told)
    with pytest.raises(InputError, match="no looks"):
        load_looks(tmp_path / "elsewhere")


def test_the_recipe_ends_at_the_equilibrium(tmp_path):
    run = fit(recipe(), samples(), tmp_path / "run", measure=measure, every=recipe().steps // 2)
    start, _, end = load_looks(tmp_path / "run")
    assert start.js > 0.1
    assert end.js <= 0.002
    assert end.critic_error <= 0.02
    assert abs(end.value - EQUILIBRIUM) <= 0.01 * abs(EQUILIBRIUM)
    assert run.measures == end.numbers()
