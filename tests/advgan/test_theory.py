"""Does the theory hold in numbers: by quadrature, by samples, and against other people's integrals?"""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad
from scipy.special import expit, logit

from advgan.objectives import OBJECTIVES, LeastSquares
from advgan.theory import (
    EQUILIBRIUM,
    Estimate,
    KnownGame,
    best_scores,
    centre_of,
    normal,
    sampled_value,
    shares,
)
from attacks.errors import InputError


def laplace(x):
    return -np.abs(x) - math.log(2)


def uniform(low: float):
    """Of width 1."""
    return lambda x: np.where((low <= x) & (x <= low + 1), 0.0, -np.inf)


GAMES = {
    "apart": KnownGame(normal(0, 1), normal(3, 1), -15, 20),
    "wide and narrow": KnownGame(normal(0, 2), normal(0.5, 0.3), -25, 25),
    "tails": KnownGame(laplace, normal(0, 1), -45, 45),
    "alike": KnownGame(normal(1, 0.5), normal(1, 0.5), -8, 10),
}
SAMPLED = {  # draws from the same densities
    "apart": lambda draw: (draw.normal(0, 1, 50_000), draw.normal(3, 1, 40_000)),
    "wide and narrow": lambda draw: (draw.normal(0, 2, 50_000), draw.normal(0.5, 0.3, 40_000)),
    "tails": lambda draw: (draw.laplace(0, 1, 50_000), draw.normal(0, 1, 40_000)),
    "alike": lambda draw: (draw.normal(1, 0.5, 50_000), draw.normal(1, 0.5, 40_000)),
}
CODES = [(-1.0, 1.0, 0.0), (0.0, 1.0, 1.0), (0.0, 2.0, 1.0), (-1.0, 1.0, 1.0), (0.0, 1.0, 0.5), (-0.5, 0.7, 0.2)]

each = pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)


def densities(game: KnownGame):
    return (lambda x: math.exp(game.real(x))), (lambda x: math.exp(game.fake(x)))


def integral(f, game: KnownGame) -> float:
    return quad(f, game.low, game.high, points=np.linspace(game.low, game.high, 31)[1:-1], limit=500)[0]


@each
def test_the_best_critic_is_the_share_of_the_data_in_both_densities(game):
    p_r, p_g = densities(game)
    x = np.linspace(-3, 4, 29)
    np.testing.assert_allclose(game.critic(x), [p_r(one) / (p_r(one) + p_g(one)) for one in x], rtol=1e-12)


@each
def test_at_the_best_critic_the_value_is_minus_2_ln_2_plus_2_js(game):
    assert game.value(game.log_ratio) == pytest.approx(game.best_value(), abs=1e-9)
    assert game.best_value() == pytest.approx(-2 * math.log(2) + 2 * game.js(), abs=1e-12)


@each
def test_no_other_critic_has_a_higher_value(game):
    ratio = game.log_ratio
    for score in (lambda x: 0.9 * ratio(x) + 0.01, lambda x: ratio(x) + 0.2 * np.sin(x), lambda x: ratio(x) - 0.1):
        assert game.value(score) < game.best_value() - 1e-6


@each
def test_js_is_the_mean_of_two_kl_to_the_middle(game):
    p_r, p_g = densities(game)

    def to_middle(p, q):
        return lambda x: p(x) * math.log(2 * p(x) / (p(x) + q(x))) if p(x) > 0 else 0.0

    halves = integral(to_middle(p_r, p_g), game) + integral(to_middle(p_g, p_r), game)
    assert game.js() == pytest.approx(halves / 2, abs=1e-8)
    assert 0 <= game.js() + 1e-12 <= math.log(2)


def test_the_game_of_equal_densities_is_at_its_equilibrium():
    game = GAMES["alike"]
    assert game.js() == pytest.approx(0, abs=1e-12)
    assert game.best_value() == pytest.approx(EQUILIBRIUM) == pytest.approx(-1.386294, abs=1e-6)
    assert game.pearson() == pytest.approx(0, abs=1e-12)
    assert game.critic(np.linspace(-3, 5, 9)).tolist() == [0.5] * 9


def test_densities_that_do_not_meet_are_ln_2_apart_and_the_value_is_0():
    game = KnownGame(uniform(0), uniform(2), -1, 4)
    assert game.js() == pytest.approx(math.log(2), abs=1e-9)
    assert game.best_value() == pytest.approx(0, abs=1e-9)
    assert game.pearson() == pytest.approx(2, abs=1e-8)


def test_kl_is_the_closed_form_of_gaussians_and_asymmetric_and_js_is_symmetric():
    there, back = KnownGame(normal(0, 1), normal(1, 2), -40, 40), KnownGame(normal(1, 2), normal(0, 1), -40, 40)
    assert there.kl() == pytest.approx(math.log(2) + (1 + 1) / 8 - 0.5, abs=1e-10)
    assert there.reverse_kl() == pytest.approx(-math.log(2) + (4 + 1) / 2 - 0.5, abs=1e-9)
    assert there.kl() == pytest.approx(back.reverse_kl(), abs=1e-9)
    assert there.reverse_kl() > 2 * there.kl()
    assert there.js() == pytest.approx(back.js(), abs=1e-10)


def test_kl_grows_without_end_as_the_densities_part_and_js_does_not():
    """Why a generator that misses the data altogether has no use for either: KL explodes, JS stands still at ln 2."""
    near, far = (KnownGame(normal(0, 0.01), normal(gap, 0.01), -1, 3) for gap in (1.0, 2.0))
    assert near.kl() == pytest.approx(1.0**2 / (2 * 0.01**2), rel=1e-9)
    assert far.kl() == pytest.approx(4 * near.kl(), rel=1e-9)
    assert near.js() == pytest.approx(math.log(2), abs=1e-9) == far.js()


def test_a_generator_that_leaves_out_a_mode_is_punished_by_kl_and_not_by_reverse_kl():
    def two(x):
        return np.logaddexp(normal(-4, 1)(x), normal(4, 1)(x)) - math.log(2)

    game = KnownGame(two, normal(4, 1), -14, 14)
    assert game.reverse_kl() == pytest.approx(math.log(2), abs=1e-3)
    assert game.kl() > 10 * game.reverse_kl()


def test_an_infinite_divergence_is_refused():
    with pytest.raises(InputError, match="infinite"):
        KnownGame(uniform(0), uniform(0.5), -1, 2).kl()


@pytest.mark.parametrize(("a", "b", "c"), CODES)
@pytest.mark.parametrize("name", ["apart", "wide and narrow"])
def test_least_squares_costs_pearsons_chi_square_where_b_minus_c_is_1_and_b_minus_a_is_2_and_nowhere_else(
    name, a, b, c
):
    game = GAMES[name]
    p_r, p_g = densities(game)

    def cost(x):
        both = p_r(x) + p_g(x)
        return ((b - c) * p_r(x) + (a - c) * p_g(x)) ** 2 / both if both > 0 else 0.0

    found = game.least_squares_cost(a, b, c)
    assert found == pytest.approx(integral(cost, game), abs=1e-7)
    gap = abs(found - game.pearson())
    assert gap < 1e-9 if (b - c, b - a) == (1, 2) else gap > 1e-2


def test_with_the_codes_0_1_1_the_cost_is_no_distance():
    """2 C(G) = integral of p_g^2 / (p_r + p_g): 1/2 at equilibrium, the chi-square of nothing."""
    assert GAMES["alike"].least_squares_cost(0, 1, 1) == pytest.approx(0.5)
    assert GAMES["apart"].least_squares_cost(0, 1, 1) > 0.5


@pytest.mark.parametrize(("a", "b"), [(-1.0, 1.0), (0.0, 1.0), (-0.5, 0.7)])
def test_no_other_score_costs_the_least_squares_critic_less(a, b):
    game, x = GAMES["apart"], np.linspace(-2, 5, 15)
    p_r, p_g = np.exp(game.real(x)), np.exp(game.fake(x))
    best = game.least_squares_critic(x, a, b)

    def cost(score):
        return p_r * (score - b) ** 2 + p_g * (score - a) ** 2

    assert (cost(best) < cost(best + 1e-3)).all()
    assert (cost(best) < cost(best - 1e-3)).all()


def test_labels_smoothed_on_the_side_of_the_fakes_reward_the_generator_for_staying():
    """The critic of labels 0.9 and 0.1 is (0.9 p_r + 0.1 p_g) / (p_r + p_g): far from all data it still gives 0.1."""
    game, far = GAMES["apart"], np.array([9.0])
    one_sided, two_sided = (game.least_squares_critic(far, a, 0.9).item() for a in (0.0, 0.1))
    assert one_sided < 1e-6
    assert two_sided == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "wasserstein"])
def test_best_scores_leave_the_critic_nothing_to_gain(name):
    """On five points with shares of their own; each pair of points meets in the relativistic game."""
    objective = OBJECTIVES[name]
    p_r, p_g = (np.array(row) for row in ([0.1, 0.2, 0.3, 0.25, 0.15], [0.3, 0.25, 0.05, 0.1, 0.3]))
    best = best_scores(objective, np.log(p_r) - np.log(p_g))
    weights = torch.from_numpy(np.outer(p_r, p_g))

    def cost(scores: np.ndarray) -> float:
        real, fake = torch.meshgrid(torch.from_numpy(scores), torch.from_numpy(scores), indexing="ij")
        return float((weights * objective.critic(real, fake)).sum())

    moves = np.random.default_rng(0).normal(size=(200, 5)) * 0.05
    assert all(cost(best) < cost(best + move) for move in moves - moves.mean(1, keepdims=True))


def test_wasserstein_has_no_best_score_that_two_densities_give():
    for ask in (best_scores, shares):
        with pytest.raises(InputError, match="Wasserstein"):
            ask(OBJECTIVES["wasserstein"], np.zeros(1))


@pytest.mark.parametrize("name", ["minimax", "non_saturating", "relativistic", "least_squares_pearson"])
def test_the_best_scores_read_as_the_best_critic(name):
    ratio = np.linspace(-9, 9, 19)
    np.testing.assert_allclose(shares(OBJECTIVES[name], best_scores(OBJECTIVES[name], ratio)), expit(ratio), rtol=1e-12)


def test_a_hinge_critic_tells_only_which_is_larger():
    hinge = OBJECTIVES["hinge"]
    assert shares(hinge, best_scores(hinge, np.array([-3.0, -0.1, 0.2, 5.0]))).tolist() == [0, 0, 1, 1]


def test_the_constant_of_a_relativistic_critic_is_found():
    p_r, p_g = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7])
    scores = np.log(p_r) - np.log(p_g) + 4.5
    assert centre_of(scores, p_r + p_g) == pytest.approx(4.5, abs=1e-9)
    assert centre_of(np.full(3, 2.0), p_r + p_g) == pytest.approx(2.0, abs=1e-9)


@each
def test_samples_agree_with_the_integral_within_their_error(game):
    draw, name = np.random.default_rng(0), next(name for name, one in GAMES.items() if one is game)
    real, fake = SAMPLED[name](draw)
    for found, exact in ((game.sampled_js(real, fake), game.js()), (game.sampled_kl(real), game.kl())):
        assert abs(found.value - exact) <= 4 * found.error + 1e-12
        assert found.error < 0.1 * max(exact, 1e-9) + 0.01 or name == "alike"


def test_the_error_bar_covers_the_truth_as_often_as_it_should():
    """Of 400 estimates from 200 samples each, two standard errors should hold the truth in about 95 %."""
    game, draw = GAMES["apart"], np.random.default_rng(0)
    truth = game.js()
    estimates = [game.sampled_js(draw.normal(0, 1, 200), draw.normal(3, 1, 200)) for _ in range(400)]
    covered = np.mean([abs(one.value - truth) <= 1.96 * one.error for one in estimates])
    assert 0.91 < covered < 0.98


def test_the_sampled_value_is_the_negative_of_the_critics_mean_loss():
    draw = np.random.default_rng(0)
    real, fake = draw.normal(1, 2, 500), draw.normal(-1, 2, 500)
    loss = OBJECTIVES["minimax"].critic(torch.from_numpy(real), torch.from_numpy(fake)).mean().item()
    assert sampled_value(real, fake).value == pytest.approx(-loss, abs=1e-9)
    assert sampled_value(np.zeros(9), np.zeros(9)) == pytest.approx(Estimate(EQUILIBRIUM, 0.0))


def test_normal_is_scipys():
    x = np.linspace(-40, 40, 81)
    np.testing.assert_allclose(normal(1.5, 0.7)(x), stats.norm.logpdf(x, 1.5, 0.7), rtol=1e-12)


def test_a_code_out_of_order_is_the_callers_to_choose():
    """a > b only mirrors the critic."""
    x = np.linspace(-3, 6, 10)
    mirrored = GAMES["apart"].least_squares_critic(x, 1.0, -1.0)
    np.testing.assert_allclose(mirrored, -GAMES["apart"].least_squares_critic(x, -1.0, 1.0))
    np.testing.assert_allclose(shares(LeastSquares(1.0, -1.0, 0.0), mirrored), GAMES["apart"].critic(x), rtol=1e-9)
    np.testing.assert_allclose(logit(GAMES["apart"].critic(x)), GAMES["apart"].log_ratio(x), atol=1e-6)
