"""Is a mixture what it is said to be, and does its measure tell learnt from collapsed, shrunk and spread?"""

import math

import pytest
import torch

from advgan.mixtures import GRID, MIXTURES, RING, SAMPLES, WITHIN, Mixture, named
from attacks import InputError

each = pytest.mark.parametrize("mixture", [RING, GRID], ids=["ring", "grid"])


def test_the_ring_has_eight_different_modes():
    """`linspace(0, 2 pi, 8)` gives its first point twice, so that seven are left."""
    assert len(torch.pdist(RING.centres)) == 28
    assert float(torch.pdist(RING.centres).min()) == pytest.approx(2 * math.sin(math.pi / 8))
    torch.testing.assert_close(RING.centres.norm(dim=1), torch.ones(8, dtype=torch.float64))


def test_the_grid_is_five_by_five_two_apart():
    assert sorted({tuple(centre) for centre in GRID.centres.tolist()}) == sorted(
        (x, y) for x in (-4.0, -2.0, 0.0, 2.0, 4.0) for y in (-4.0, -2.0, 0.0, 2.0, 4.0)
    )


@each
def test_a_perfect_sampler_scores_98_9_percent(mixture: Mixture):
    """1 - exp(-9/2), the mass of a round Gaussian within three deviations; five binomial deviations allowed."""
    n = 100_000
    expected = 1 - math.exp(-4.5)
    assert expected == pytest.approx(0.989, abs=2e-4)
    learnt = mixture.measure(mixture.sample(n, seed=1))
    assert abs(learnt.high_quality - expected) < 5 * math.sqrt(expected * (1 - expected) / n)


@each
def test_a_perfect_sampler_has_every_mode_equal_shares_and_the_true_deviation(mixture: Mixture):
    modes, n = len(mixture.centres), 100_000
    learnt = mixture.measure(mixture.sample(n, seed=2))
    assert learnt.modes == modes
    assert 0 < learnt.reverse_kl < 3 * (modes - 1) / (2 * n)  # which is its mean for equal shares, by chi-square
    error = 5 / math.sqrt(2 * 2 * n / modes)
    assert float((learnt.deviation - 1).abs().max()) < error
    assert float((learnt.narrowest - 1).abs().max()) < 2 * error


@each
def test_samples_depend_on_their_number_and_the_seed_alone(mixture: Mixture):
    assert torch.equal(mixture.sample(50, seed=3)[:20], mixture.sample(20, seed=3))
    assert not torch.equal(mixture.sample(20, seed=3), mixture.sample(20, seed=4))


def test_the_share_of_variance_within_reach_is_that_of_a_cut_gaussian():
    x = torch.randn(400_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inside = x[x.norm(dim=1) < 3]
    assert float(inside.var(0).mean()) == pytest.approx(WITHIN, abs=0.01)
    assert pytest.approx(0.9495, abs=1e-4) == WITHIN


def test_a_generator_of_one_mode_scores_one_mode_and_the_largest_divergence():
    learnt = GRID.measure(GRID.centres[7] + 0.05 * torch.randn(SAMPLES, 2, dtype=torch.float64).clamp(-2, 2))
    assert learnt.modes == 1
    assert learnt.high_quality == 1
    assert learnt.reverse_kl == pytest.approx(math.log(25))


def test_half_of_the_modes_cost_ln_2():
    learnt = RING.measure(RING.centres[:4].repeat(10, 1))
    assert learnt.modes == 4
    assert learnt.reverse_kl == pytest.approx(math.log(2))


def test_points_on_the_centres_are_of_high_quality_and_have_no_deviation():
    learnt = RING.measure(RING.centres.repeat(10, 1))
    assert learnt.high_quality == 1
    assert learnt.deviation.tolist() == pytest.approx([0] * 8, abs=1e-6)


def test_modes_drawn_out_to_lines_are_seen():
    """A line may have the variance of a disc over both axes together."""
    offsets = torch.linspace(-2, 2, 101, dtype=torch.float64) * RING.std
    line = torch.stack([offsets, torch.zeros_like(offsets)], 1)
    learnt = RING.measure((RING.centres[:, None] + line).reshape(-1, 2))
    assert float(learnt.deviation.min()) > 0.75
    assert float(learnt.narrowest.max()) < 1e-3


def test_samples_between_the_modes_count_in_no_histogram():
    """As in PacGAN's code: three of mode 0 and one of mode 1, whatever lies out of reach beside mode 1."""
    beside = RING.centres[1] + 3.01 * RING.std / math.sqrt(2)
    learnt = RING.measure(torch.cat([RING.centres[[0, 0, 0, 1]], beside.repeat(96, 1)]))
    assert learnt.counts.tolist() == [3, 1, 0, 0, 0, 0, 0, 0]
    assert learnt.high_quality == 0.04
    assert learnt.reverse_kl == pytest.approx(0.75 * math.log(0.75 * 8) + 0.25 * math.log(0.25 * 8))


def test_without_a_sample_of_high_quality_there_is_no_divergence_to_speak_of():
    learnt = RING.measure(torch.zeros(10, 2))
    assert (learnt.modes, learnt.high_quality) == (0, 0)
    assert math.isnan(learnt.reverse_kl)
    assert bool(learnt.deviation.isnan().all())


def test_the_measures_carry_their_count():
    measures = RING.measure(RING.sample(SAMPLES, seed=0)).as_measures()
    assert measures["samples"] == 2500
    assert {"modes", "high_quality", "reverse_kl", "deviation_0", "deviation_7"} <= set(measures)


@pytest.mark.parametrize(
    ("x", "told"),
    [
        (torch.zeros(5, 3), r"\[5, 3\]"),
        (torch.zeros(0, 2), r"\[0, 2\]"),
        (torch.tensor([[0.0, math.nan], [1.0, 0.0]]), "1 of 2 points hold NaN"),
    ],
)
def test_what_cannot_be_measured_is_refused(x, told):
    with pytest.raises(InputError, match=told):
        RING.measure(x)


def test_mixtures_go_by_name():
    assert set(MIXTURES) == {"ring", "grid"}
    assert named("grid") is GRID
    with pytest.raises(InputError, match="Did you mean 'ring'"):
        named("rnig")
