"""Rotations, translations and common corruptions: are they what they say, within bounds and mask, the same per row?"""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional

import attacks
from attacks import CATALOG, Access, Goal, InputError, Victim
from attacks.images import bell, convolved, sampled, smoothed, turned
from attacks.norms import NORMS
from attacks.rows import Rows
from attacks.spatial.corruptions import KINDS, Corruptions, corrupted, poisson
from attacks.spatial.rotate_translate import RotateTranslate

DECIDES = Access.DECISION
BOTH = ("rotate_translate", "corruptions")


class ElementwiseNet(nn.Module):
    """Rows by elementwise products and sums: the batch cannot change a bit. The images x are near its boundaries."""

    def __init__(self, x, classes=5):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(classes, x[0].numel(), generator=generator))
        self.middle = nn.Parameter(x.flatten(1).mean(0).float())

    def forward(self, x):
        return ((x.flatten(1) - self.middle)[:, None, :] * self.weight).sum(2)


def images(rows=6, channels=3, height=12, width=12, dtype=torch.float32, seed=1, contrast=1.0):
    """Smooth ones, as pictures are."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(rows, channels, 4, 4, generator=generator, dtype=torch.float64)
    fine = functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (0.5 + (fine - 0.5) * contrast).to(dtype)


def rows_of(x, seed=0, threat="linf:inf", **options):
    goal = Goal(torch.zeros(len(x), dtype=torch.int64))
    threat = attacks.linf(math.inf, **options) if options else attacks.ThreatModel.parse(threat)
    return Rows(x, torch.arange(len(x)), goal, threat.around(x), seed)


def angle_of(*degrees):
    return torch.tensor(degrees, dtype=torch.float64)


ZERO = torch.zeros(1, dtype=torch.float64)


class Recording(nn.Module):
    """Is never fooled, and keeps what it is shown."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def forward(self, x):
        self.shown.append(x.clone())
        return torch.tensor([[5.0, 0.0]]).repeat(len(x), 1)


# -- rotation and translation --


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("side", [7, 12])
def test_no_rotation_is_the_identity_and_quarter_turns_are_those_of_torch(side, dtype):
    x = images(height=side, width=side, dtype=dtype)
    assert torch.equal(turned(x, ZERO, ZERO, ZERO), x)
    for quarter in (-2, -1, 1, 2, 3):
        assert torch.equal(turned(x, angle_of(90.0 * quarter), ZERO, ZERO), torch.rot90(x, quarter, (2, 3)))


@pytest.mark.parametrize("edge", [False, True])
def test_a_shift_of_whole_pixels_moves_the_image_and_fills_what_it_leaves(edge):
    x = images(height=9, width=7)
    moved = turned(x, ZERO, angle_of(2.0), angle_of(-3.0), edge)
    assert torch.equal(moved[:, :, 2:, :-3], x[:, :, :-2, 3:])
    if edge:
        assert torch.equal(moved[:, :, :2, :-3], x[:, :, :1, 3:].expand(-1, -1, 2, -1))
    else:
        assert (moved[:, :, :2] == 0).all()
        assert (moved[:, :, :, -3:] == 0).all()


def test_any_angle_and_shift_give_what_torch_samples_there():
    x = images(rows=4, height=16, width=16, dtype=torch.float64)
    angle, down, right = angle_of(10, -35, 77, 3), angle_of(1.5, 0, -2.25, 4), angle_of(0, -3.5, 1, 0.5)
    cos, sin = (angle * math.pi / 180).cos(), (angle * math.pi / 180).sin()
    shift = torch.stack((right, down), 1)[:, :, None] / 8  # in halves of the side
    back = torch.stack((torch.stack((cos, -sin), 1), torch.stack((sin, cos), 1)), 1)
    grid = functional.affine_grid(torch.cat((back, -back @ shift), 2), list(x.shape), align_corners=False)
    expected = functional.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    torch.testing.assert_close(turned(x, angle, down, right), expected, rtol=0, atol=1e-5)


def test_a_row_is_turned_the_same_in_any_company():
    x = images(rows=9, height=11, width=14)
    generator = torch.Generator().manual_seed(3)
    angle, down, right = (torch.rand(3, 9, generator=generator, dtype=torch.float64) * 20).unbind(0)
    whole = turned(x, angle, down, right)
    for i in range(9):
        at = slice(i, i + 1)
        assert torch.equal(whole[at], turned(x[at], angle[at], down[at], right[at]))


def test_the_grid_holds_every_angle_and_shift_but_the_image_itself():
    x, model = images(rows=2, height=20, width=10), Recording()
    attack = RotateTranslate(angle=90.0, shift=0.2, angles=3, shifts=3)
    result = attacks.run(attack, Victim(model, DECIDES), x, torch.zeros(2, dtype=torch.int64), "linf:inf")
    tried = torch.cat([each.unflatten(0, (-1, 2)) for each in model.shown[1:]])
    assert len(tried) == 26
    assert (result.queries == 27).all()
    assert [len(each) // 2 for each in model.shown[1:]] == [5] * 5 + [1]
    places = [(a, b, c) for a in (-90.0, 0.0, 90.0) for b in (-4.0, 0.0, 4.0) for c in (-2.0, 0.0, 2.0)]
    places.remove((0.0, 0.0, 0.0))
    for one, place in zip(tried, places, strict=True):
        assert torch.equal(one, turned(x, angle_of(place[0]), angle_of(place[1]), angle_of(place[2])))
    assert int(Corruptions.card.access) == int(RotateTranslate.card.access) == 0


def test_by_default_the_grid_is_the_published_one():
    attack = RotateTranslate()
    assert (attack.angle, attack.angles, attack.shifts) == (30.0, 31, 5)
    x, model = images(rows=1, channels=1), Recording()
    result = attacks.run("rotate_translate", Victim(model, DECIDES), x, torch.zeros(1, dtype=torch.int64), "l2:inf")
    assert int(result.queries) == 31 * 5 * 5  # the clean image among them


def test_random_tries_are_each_rows_own_and_within_the_limits():
    x = images(rows=5, dtype=torch.float64)
    same = x[:1].expand(5, -1, -1, -1).contiguous()
    model = Recording()
    attack = RotateTranslate(search_by="random", angle=0.0, shift=0.25, tries=7)
    labels = torch.zeros(5, dtype=torch.int64)
    result = attacks.run(attack, Victim(model, DECIDES), same, labels, "linf:inf")
    assert (result.queries == 8).all()
    tried = torch.cat([each.unflatten(0, (-1, 5)) for each in model.shown[1:]])
    assert len(tried) == 7
    assert len({tuple(image.flatten().tolist()) for image in tried.flatten(0, 1)}) == 35
    other = attacks.run(attack, Victim(Recording(), DECIDES), same, labels, "linf:inf", seed=1)
    assert torch.equal(other.queries, result.queries)


def test_a_picture_read_upright_only_is_broken_by_turning_it():
    """Two classes: a stripe that lies, and one that stands."""
    x = torch.zeros(2, 1, 9, 9)
    x[0, 0, 4, :] = 1.0
    x[1, 0, :, 4] = 1.0

    class Stripes(nn.Module):
        def forward(self, z):
            return torch.stack((z[:, 0, 4, :].sum(1), z[:, 0, :, 4].sum(1)), 1)

    labels = torch.tensor([0, 1])
    assert not attacks.run(RotateTranslate(angle=30.0, shift=0.0), Stripes(), x, labels, "linf:inf").fooled.any()
    result = attacks.run(RotateTranslate(angle=60.0, shift=0.0), Stripes(), x, labels, "linf:inf")
    assert result.fooled.all()
    target = attacks.Goal(1 - labels, targeted=True)
    assert attacks.run(RotateTranslate(angle=60.0, shift=0.0), Stripes(), x, target, "linf:inf").fooled.all()


# -- corruptions --


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_every_corruption_does_more_the_severer_it_is(kind, channels):
    x = images(rows=8, channels=channels, height=32, width=32)
    sizes = []
    for severity in range(1, 6):
        z = corrupted(rows_of(x), kind, severity)
        assert z.shape == x.shape
        assert z.dtype == x.dtype
        assert ((z >= 0) & (z <= 1)).all()
        sizes.append(float((z - x).square().mean()))
    assert 0 < sizes[0] < sizes[4]
    assert kind == "pixelate" or sizes == sorted(sizes), sizes  # one of 28 pixels may fit better than one of 29


@pytest.mark.parametrize("kind", KINDS)
def test_large_images_have_the_severities_of_large_images(kind):
    x = images(rows=1, height=100, width=70)
    mild, severe = (float((corrupted(rows_of(x), kind, s) - x).abs().mean()) for s in (1, 5))
    assert 0 < mild < severe


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_corrupted_the_same_in_any_company(kind):
    x = images(rows=5, height=16, width=20)
    whole = corrupted(rows_of(x, seed=3), kind, 3)
    for i in range(5):
        threat = attacks.linf(math.inf).around(x[i : i + 1])
        rows = Rows(x[i : i + 1], torch.tensor([i]), Goal(torch.zeros(1, dtype=torch.int64)), threat, 3)
        assert torch.equal(whole[i : i + 1], corrupted(rows, kind, 3))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "noise" not in kind])
def test_other_bounds_stretch_the_corruption_with_them(kind):
    x = images(rows=3, height=16, width=16, dtype=torch.float64)
    plain = corrupted(rows_of(x), kind, 4)
    wide = corrupted(rows_of(x * 4 - 1, bounds=(-1.0, 3.0)), kind, 4)
    torch.testing.assert_close(wide, plain * 4 - 1, rtol=0, atol=1e-9)


def test_noises_have_their_published_spread():
    x = torch.full((4, 3, 64, 64), 0.5)
    rows = rows_of(x)
    gaussian = corrupted(rows, "gaussian_noise", 3) - x
    assert float(gaussian.std()) == pytest.approx(0.08, rel=0.02)
    shot = corrupted(rows, "shot_noise", 3) - x
    assert float(shot.std()) == pytest.approx((0.5 / 100) ** 0.5, rel=0.02)
    assert float(shot.mean()) == pytest.approx(0, abs=2e-3)
    impulse = corrupted(rows, "impulse_noise", 5)
    assert float((impulse == 0).double().mean()) == pytest.approx(0.035, rel=0.05)
    assert float((impulse == 1).double().mean()) == pytest.approx(0.035, rel=0.05)
    assert (impulse[(impulse != 0) & (impulse != 1)] == 0.5).all()


def test_poisson_counts_are_the_inverse_of_the_distribution():
    generator = np.random.default_rng(0)
    luck, mean = generator.random(3000), generator.choice([0.0, 1e-3, 0.3, 2.0, 17.5, 60.0, 499.0], 3000)
    luck[:5] = 0.0
    found = poisson(torch.from_numpy(luck), torch.from_numpy(mean)).numpy()
    expected = np.maximum(stats.poisson.ppf(luck, mean), 0)
    assert (found == expected).all()


def test_contrast_brightness_and_pixelate_are_what_they_are_called():
    x = images(rows=3, height=20, width=20, dtype=torch.float64)
    rows = rows_of(x)
    paler = corrupted(rows, "contrast", 5)
    mean = x.mean((2, 3), keepdim=True)
    torch.testing.assert_close(paler - mean, (x - mean) * 0.15)
    brighter = corrupted(rows, "brightness", 3)
    unclipped = x.amax(1) + 0.15 < 1
    torch.testing.assert_close(
        (brighter.amax(1) - x.amax(1))[unclipped], torch.full((int(unclipped.sum()),), 0.15).double()
    )
    torch.testing.assert_close((brighter / brighter.amax(1, True)), x / x.amax(1, True))
    coarse = corrupted(rows, "pixelate", 5)  # 13 of 20 pixels a side
    assert len(coarse[0, 0].unique()) <= 13 * 13
    black = corrupted(rows_of(torch.zeros(1, 3, 8, 8)), "brightness", 1)
    assert torch.equal(black, torch.full_like(black, 0.05))


def test_jpeg_is_pillows(tmp_path):
    from PIL import Image

    x = images(rows=2, height=24, width=32)
    found = corrupted(rows_of(x), "jpeg", 4)
    for row, image in zip(x, found, strict=True):
        levels = (row * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(levels).save(tmp_path / "it.jpg", quality=50)
        expected = torch.tensor(np.asarray(Image.open(tmp_path / "it.jpg"))).permute(2, 0, 1) / 255
        assert torch.equal(image, expected)
    assert 0 < float((found - x).abs().mean()) < 0.05


def test_blurs_keep_the_mean_of_a_flat_image_and_spread_a_point():
    flat = torch.full((1, 1, 9, 9), 0.5, dtype=torch.float64)
    point = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    point[..., 20, 20] = 1.0
    for kind in ("gaussian_blur", "defocus_blur"):
        for severity in (1, 5):
            torch.testing.assert_close(corrupted(rows_of(flat), kind, severity), flat)
            spread = corrupted(rows_of(point), kind, severity)
            assert float(spread.sum()) == pytest.approx(1, rel=1e-6)
            assert float(spread.max()) < 1
            torch.testing.assert_close(spread, spread.flip(2).flip(3))
            torch.testing.assert_close(spread, spread.transpose(2, 3))


def test_corruptions_are_tried_from_the_mildest_on():
    x, model = images(rows=2, height=16, width=16), Recording()
    attack = Corruptions(kinds="jpeg + contrast", severity=3)
    labels = torch.zeros(2, dtype=torch.int64)
    result = attacks.run(attack, Victim(model, DECIDES), x, labels, "linf:inf")
    assert (result.queries == 1 + 2 * 3).all()
    for severity, shown in enumerate(model.shown[1:], start=1):
        one, other = shown.unflatten(0, (2, 2))
        assert torch.equal(one, corrupted(rows_of(x), "jpeg", severity))
        assert torch.equal(other, corrupted(rows_of(x), "contrast", severity))


# -- both --


@pytest.mark.parametrize("name", BOTH)
def test_batch_order_shard_and_company_change_no_bit(name):
    x = images(rows=9, height=16, width=16, contrast=0.2)
    model = ElementwiseNet(x)
    labels = model(x).argmax(1)
    short = {"angles": 5} if name == "rotate_translate" else {}
    for attack in (CATALOG[name](**short), RotateTranslate(search_by="random")):
        whole = attacks.run(attack, Victim(model, DECIDES), x, labels, "linf:inf", seed=3)
        assert whole.fooled.any()
        order = torch.randperm(9, generator=torch.Generator().manual_seed(5))
        ids = torch.arange(9)
        others = [
            (attacks.run(attack, model, x, labels, "linf:inf", seed=3, batch_size=2), ids),
            (attacks.run(attack, model, x, labels, "linf:inf", seed=3, compact_below=1.0), ids),
            (attacks.run(attack, model, x[order], labels[order], "linf:inf", seed=3, ids=order), order),
            (attacks.run(attack, model, x[2:5], labels[2:5], "linf:inf", seed=3, ids=ids[2:5]), ids[2:5]),
        ]
        for result, at in others:
            for field in ("fooled", "queries", "backwards", "step", "size", "x_adv"):
                assert torch.equal(getattr(whole, field)[at], getattr(result, field)), field


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_bounds_and_mask_hold_and_what_is_claimed_is_true(name, norm):
    x = images(rows=9, height=16, width=16, contrast=0.2)
    model = ElementwiseNet(x)
    labels = model(x).argmax(1)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 2:] = 1
    low, high = (x - 0.4).clamp_min(0), torch.tensor(0.95)
    threat = attacks.ThreatModel(NORMS[norm], math.inf, (low.amin((0, 2), True), high), mask)
    x = x.clamp_max(0.95)
    result = attacks.run(name, Victim(model, DECIDES), x, labels, threat)
    fooled = result.fooled
    assert fooled.any()
    assert (model(result.x_adv).argmax(1) != labels)[fooled].all()
    assert torch.equal(result.x_adv[..., :2], x[..., :2])
    assert (result.x_adv <= 0.95).all()
    assert (result.x_adv >= low.amin((0, 2), True)).all()
    assert result.size[fooled].isfinite().all()
    assert (result.backwards == 0).all()


@pytest.mark.parametrize("name", BOTH)
def test_they_stay_in_no_ball_and_want_images(name):
    x = images()
    model = ElementwiseNet(x)
    labels = model(x).argmax(1)
    with pytest.raises(InputError, match=r"stays in no ball: give the threat linf:inf"):
        attacks.run(name, model, x, labels, "linf:0.1")
    with pytest.raises(InputError, match=r"images \[B, C, H, W\]"):
        attacks.run(name, model, x.flatten(1), labels, "linf:inf")
    result = attacks.run(name, model, x.half().float().double(), labels, attacks.linf(math.inf))
    assert result.x_adv.dtype == torch.float64


def test_corruptions_want_finite_bounds():
    x = images()
    with pytest.raises(InputError, match=r"bounds do not say.*finite"):
        attacks.run(
            "corruptions",
            Recording(),
            x,
            torch.zeros(6, dtype=torch.int64),
            attacks.linf(math.inf, bounds=(-math.inf, math.inf)),
        )


@pytest.mark.parametrize("name", BOTH)
def test_counts_are_the_images_shown(name):
    x = images(contrast=0.2)
    model = ElementwiseNet(x)
    labels = model(x).argmax(1)
    shown = []
    model.register_forward_pre_hook(lambda _, given: shown.append(len(given[0])))
    result = attacks.run(name, model, x, labels, "linf:inf", compact_below=1.0)
    assert sum(shown) == int(result.queries.sum())


@pytest.mark.parametrize("budget", [1, 3, 8, 11])
@pytest.mark.parametrize("name", BOTH)
def test_a_budget_is_kept_exactly(name, budget):
    result = attacks.run(name, Recording(), images(), torch.zeros(6, dtype=torch.int64), "linf:inf", max_queries=budget)
    assert (result.queries == budget).all()


@pytest.mark.parametrize(
    ("make_it", "says"),
    [
        (lambda: RotateTranslate(search_by="spiral"), "spiral"),  # type: ignore[arg-type]
        (lambda: RotateTranslate(border="mirror"), "mirror"),  # type: ignore[arg-type]
        (lambda: RotateTranslate(angles=0), "angles=0"),
        (lambda: RotateTranslate(shift=1.5), "shift"),
        (lambda: RotateTranslate(angle=-1.0), "angle"),
        (lambda: Corruptions(severity=6), "severity=6"),
        (lambda: Corruptions(kinds="jpg"), "Did you mean 'jpeg'"),
        (lambda: Corruptions(kinds="jpeg+jpeg"), "twice"),
    ],
)
def test_bad_options_are_refused(make_it, says):
    with pytest.raises(InputError, match=says):
        make_it()


# -- the arithmetic on images --


def test_convolution_by_shifted_sums_is_torchs():
    x = images(rows=2, height=10, width=13, dtype=torch.float64)
    kernel = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = kernel[None, None].expand(3, 1, 5, 3)
    for edge, mode in ((False, "constant"), (True, "replicate")):
        expected = functional.conv2d(functional.pad(x, (1, 1, 2, 2), mode=mode), weight, groups=3)
        torch.testing.assert_close(convolved(x, kernel.tolist(), edge), expected)
    line = bell(1.3, 4)
    assert sum(line) == pytest.approx(1)
    torch.testing.assert_close(
        smoothed(x, line), convolved(x, torch.outer(*[torch.tensor(line).double()] * 2).tolist())
    )


def test_sampling_is_linear_and_its_gradient_exact():
    x = images(rows=2, height=6, width=5, dtype=torch.float64).requires_grad_()
    places = torch.rand(2, 2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 7 - 1
    assert torch.autograd.gradcheck(lambda z: sampled(z, places[0], places[1]), (x,))
    assert torch.autograd.gradcheck(lambda z: sampled(z, places[0], places[1], edge=True), (x,))
