"""Are the objectives what the papers wrote: values at equilibrium, slopes, and who is left without a slope?"""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from advgan.objectives import OBJECTIVES, PEARSON, ZERO_ONE, LeastSquares, Minimax, NonSaturating, named
from attacks.errors import InputError

LN2 = math.log(2)
EQUILIBRIUM = {  # name: (the score that a best critic gives everything, its loss, the generator's)
    "minimax": (0.0, 2 * LN2, -LN2),
    "non_saturating": (0.0, 2 * LN2, LN2),
    "least_squares_pearson": (0.0, 1.0, 0.0),
    "least_squares_zero_one": (0.5, 0.25, 0.125),
    "hinge": (0.0, 2.0, 0.0),
    "wasserstein": (7.0, 0.0, -7.0),
    "relativistic": (7.0, LN2, LN2),
}
SLOPES = {  # name: (d critic / d real, d critic / d fake, d generator / d fake), written out by hand
    "minimax": lambda r, f: (-sigmoid(-r), sigmoid(f), -sigmoid(f)),
    "non_saturating": lambda r, f: (-sigmoid(-r), sigmoid(f), -sigmoid(-f)),
    "least_squares_pearson": lambda r, f: (r - 1, f + 1, f),
    "least_squares_zero_one": lambda r, f: (r - 1, f, f - 1),
    "hinge": lambda r, f: (-(r < 1).double(), (f > -1).double(), -torch.ones_like(f)),
    "wasserstein": lambda r, f: (-torch.ones_like(r), torch.ones_like(f), -torch.ones_like(f)),
    "relativistic": lambda r, f: (-sigmoid(f - r), sigmoid(f - r), -sigmoid(r - f)),
}

each = pytest.mark.parametrize("name", OBJECTIVES)


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + (-x).exp())


def scores(count: int = 200) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    real, fake = (3 * torch.randn(count, generator=draw, dtype=torch.float64) for _ in range(2))
    return real.requires_grad_(), fake.requires_grad_()


@each
def test_at_equilibrium_the_losses_are_those_of_the_papers(name):
    score, critic, generator = EQUILIBRIUM[name]
    same = torch.full((5,), score, dtype=torch.float64)
    assert OBJECTIVES[name].critic(same, same).tolist() == pytest.approx([critic] * 5, abs=1e-12)
    assert OBJECTIVES[name].generator(same, same).tolist() == pytest.approx([generator] * 5, abs=1e-12)


@each
def test_where_scores_cannot_tell_them_apart_no_other_constant_is_better_for_the_critic(name):
    score = EQUILIBRIUM[name][0] + torch.linspace(-2, 2, 41, dtype=torch.float64)
    losses = OBJECTIVES[name].critic(score, score)
    assert losses.min().item() == pytest.approx(EQUILIBRIUM[name][1], abs=1e-12)


@each
def test_slopes_are_those_of_the_closed_form(name):
    real, fake = scores()
    by_real, by_fake = torch.autograd.grad(OBJECTIVES[name].critic(real, fake).sum(), (real, fake))
    (by_generator,) = torch.autograd.grad(OBJECTIVES[name].generator(real, fake).sum(), fake)
    for found, wanted in zip((by_real, by_fake, by_generator), SLOPES[name](real, fake), strict=True):
        torch.testing.assert_close(found, wanted.detach(), rtol=1e-12, atol=1e-12)


@each
def test_slopes_are_those_of_finite_differences(name):
    real, fake = (one[:20] for one in scores())
    assert torch.autograd.gradcheck(OBJECTIVES[name].critic, (real, fake))
    assert torch.autograd.gradcheck(OBJECTIVES[name].generator, (real, fake))


@each
def test_losses_are_per_row_and_a_row_sees_no_other(name):
    real, fake = (one.detach() for one in scores(6))
    for loss in (OBJECTIVES[name].critic, OBJECTIVES[name].generator):
        together = loss(real, fake)
        assert together.shape == (6,)
        assert together.tolist() == [loss(real[k : k + 1], fake[k : k + 1]).item() for k in range(6)]


@each
def test_scores_of_ten_thousand_give_finite_losses_and_slopes(name):
    ends = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4])
    real, fake = (one.flatten().requires_grad_() for one in torch.meshgrid(ends, ends, indexing="ij"))
    for loss in (OBJECTIVES[name].critic(real, fake), OBJECTIVES[name].generator(real, fake)):
        slopes = torch.autograd.grad(loss.sum(), (real, fake), allow_unused=True)
        assert loss.isfinite().all()
        assert all(slope.isfinite().all() for slope in slopes if slope is not None)


@each
def test_only_an_objective_that_pairs_reads_the_real_scores_for_the_generator(name):
    objective = OBJECTIVES[name]
    fake = scores()[1]
    if not objective.pairs:
        assert objective.generator(None, fake).equal(objective.generator(torch.full_like(fake, torch.nan), fake))
        return
    with pytest.raises(AssertionError):
        objective.generator(None, fake)


@each
def test_the_critic_wants_data_up_and_fakes_down_and_the_generator_its_fakes_up(name):
    objective, level = OBJECTIVES[name], torch.full((1,), EQUILIBRIUM[name][0])
    up, down = level + 0.25, level - 0.25
    assert objective.critic(up, level) < objective.critic(level, level)
    assert objective.critic(level, down) < objective.critic(level, level)
    if name != "least_squares_pearson":  # whose generator wants 0, and neither more nor less
        assert objective.generator(level, up) < objective.generator(level, level)


def test_minus_the_critics_loss_is_the_value_of_the_game():
    real, fake = scores()
    value = sigmoid(real).log() + (1 - sigmoid(fake)).log()
    for objective in (Minimax(), NonSaturating()):
        torch.testing.assert_close(-objective.critic(real, fake), value, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(Minimax().generator(None, fake), (1 - sigmoid(fake)).log(), rtol=1e-10, atol=1e-10)


def test_the_minimax_generator_goes_down_the_value_that_its_critic_goes_up():
    """A 'minimax' whose generator is the non-saturating one has another slope, and it is not zero-sum."""
    real, fake = scores()
    (by_critic,) = torch.autograd.grad(Minimax().critic(real, fake).sum(), fake)
    (by_generator,) = torch.autograd.grad(Minimax().generator(None, fake).sum(), fake)
    assert by_generator.equal(-by_critic)
    (other,) = torch.autograd.grad(NonSaturating().generator(None, fake).sum(), fake)
    torch.testing.assert_close(by_generator - other, 1 - 2 * sigmoid(fake).detach())


def test_the_logarithm_does_not_flatten_where_a_sigmoid_underflows():
    """log(sigmoid(x) + 1e-8) ends at -18.4 and has no slope there."""
    fake = torch.tensor([-50.0, -200.0], requires_grad=True)
    loss = NonSaturating().generator(None, fake)
    (slope,) = torch.autograd.grad(loss.sum(), fake)
    assert loss.tolist() == [50.0, 200.0]
    assert slope.tolist() == [-1.0, -1.0]


def test_least_squares_draws_a_fake_from_far_beyond_the_boundary_and_cross_entropy_leaves_it_there():
    """The reason for LSGAN (arXiv 1611.04076, figure 1): the fake is taken for real, and it is far from the data.

    On the line the critic's score is x, data lie at x = 1 and a fake at x = 12.
    """
    fake = torch.tensor([12.0], dtype=torch.float64, requires_grad=True)

    def slope(objective):
        return torch.autograd.grad(objective.generator(None, fake).sum(), fake)[0].item()

    assert abs(slope(NonSaturating())) < 1e-5
    assert slope(ZERO_ONE) == pytest.approx(11.0)  # descent goes down by it, to the data at 1
    assert slope(PEARSON) == pytest.approx(12.0)


@pytest.mark.parametrize("sure", [10.0, 30.0])
def test_a_critic_that_is_sure_of_a_fake_leaves_a_slope_in_the_score_to_all_but_minimax(sure):
    """A fake that the critic gives the score -sure."""
    fake = torch.tensor([-sure], dtype=torch.float64, requires_grad=True)

    def slope(objective):
        return abs(torch.autograd.grad(objective.generator(None, fake).sum(), fake)[0].item())

    assert slope(Minimax()) < 2 * math.exp(-sure)
    assert slope(NonSaturating()) > 0.9999
    assert slope(ZERO_ONE) == pytest.approx(sure + 1)


@pytest.mark.parametrize("name", ["minimax", "non_saturating", "least_squares_zero_one", "least_squares_pearson"])
def test_a_critic_that_has_told_them_apart_starves_the_generator_in_its_samples(name):
    """The slope in the score may live and the slope in the sample dies all the same, for the critic is flat there.

    The best critic of data in [2, 3] and fakes in [-3, -2] steps from one value to the other, here within 1 / sharp.
    """
    objective = OBJECTIVES[name]

    def slope(sharp: float) -> float:
        x = torch.linspace(-3, -2, 11, dtype=torch.float64, requires_grad=True)
        told = torch.tanh(sharp * x)
        score = 6 * told if name in ("minimax", "non_saturating") else (told + 1) / 2 if objective is ZERO_ONE else told
        return torch.autograd.grad(objective.generator(None, score).sum(), x)[0].abs().max().item()

    assert slope(0.3) > 1e-3
    assert slope(10.0) < 1e-12


def test_a_sigmoid_at_the_critics_end_would_leave_the_code_minus_one_out_of_reach():
    """Why critics end linear: the best score of a fake is a = -1, and a sigmoid never goes below 0."""
    raw = torch.linspace(-50, 50, 1001, dtype=torch.float64)
    linear, bounded = PEARSON.critic(torch.ones_like(raw), raw), PEARSON.critic(torch.ones_like(raw), sigmoid(raw))
    assert linear.min() < 1e-2
    assert bounded.min() >= 0.5


def test_the_codes_are_free():
    game = LeastSquares(a=-2.0, b=3.0, c=0.5)
    even = torch.full((1,), 0.5, dtype=torch.float64)  # (a + b) / 2
    assert game.critic(even, even).item() == pytest.approx((-2.0 - 3.0) ** 2 / 4)
    assert game.generator(None, even).item() == 0


def test_loss_and_slope_agree_with_float64_in_float32():
    for name, objective in OBJECTIVES.items():
        real, fake = (one.detach() for one in scores())
        exact, single = objective.critic(real, fake), objective.critic(real.float(), fake.float())
        torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=1e-6, msg=name)
    torch.testing.assert_close(NonSaturating().generator(None, fake), -logsigmoid(fake))


def test_an_unknown_name_is_answered_with_the_nearest():
    assert named("hinge") is OBJECTIVES["hinge"]
    assert named(PEARSON) is PEARSON
    with pytest.raises(InputError, match="Did you mean 'hinge'"):
        named("hinged")
