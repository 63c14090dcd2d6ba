"""Whether every pair of networks keeps its promises: shapes, counts, linear ends, rows apart, classes told, seeds."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from advgan.networks import CONDITIONINGS, KINDS, build, dcgan, fourier, mlp, resnet
from advgan.networks.shapes import sides
from attacks import InputError

LATENT, CLASSES = 6, 5
IMAGES = [(1, 4, 4), (1, 8, 8), (2, 12, 12), (1, 20, 20), (1, 28, 28), (3, 32, 32), (4, 44, 44), (3, 64, 64)]
VECTORS = [(1,), (2,), (17,), (1, 5, 7), (3, 8, 8)]
SHAPES = {"mlp": VECTORS, "fourier": VECTORS, "dcgan": IMAGES, "resnet": IMAGES}
SMALL = {"mlp": (3,), "fourier": (3,), "dcgan": (1, 8, 8), "resnet": (1, 8, 8)}
COUNTS = {  # (kind, shape, width): parameters of generator and critic; latent 64, 10 classes, projection
    ("dcgan", (1, 8, 8), 32): (52417, 36193),
    ("dcgan", (1, 28, 28), 32): (265537, 67873),
    ("dcgan", (3, 32, 32), 64): (962435, 703937),
    ("dcgan", (3, 64, 64), 64): (3363715, 2846657),
    ("resnet", (1, 8, 8), 32): (171680, 163617),
    ("resnet", (1, 28, 28), 16): (64656, 60625),
    ("resnet", (3, 32, 32), 32): (554464, 538337),
    ("resnet", (3, 64, 64), 32): (956896, 940769),
}
each_kind = pytest.mark.parametrize("kind", KINDS)
each_conditioning = pytest.mark.parametrize("conditioning", CONDITIONINGS)


def pair(kind: str, shape: tuple[int, ...] | None = None, classes: int | None = CLASSES, **options):
    return build(kind, shape or SMALL[kind], LATENT, classes, width=8, **options)


def stir(net: nn.Module, scale: float = 0.3) -> None:
    """Away from where it begins, so that no branch is at zero."""
    draw = torch.Generator().manual_seed(1)
    for weight in net.parameters():
        weight.data += scale * torch.randn(weight.shape, generator=draw, dtype=weight.dtype)


def drawn(shape: tuple[int, ...], rows: int = 4, dtype: torch.dtype = torch.float32):
    draw = torch.Generator().manual_seed(2)
    x, z = (torch.randn(rows, *size, generator=draw, dtype=dtype) for size in (shape, (LATENT,)))
    return x, torch.arange(rows) % CLASSES, z


def parameters(net: nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


@pytest.mark.parametrize(("kind", "shape"), [(kind, shape) for kind, shapes in SHAPES.items() for shape in shapes])
@pytest.mark.parametrize("classes", [None, CLASSES])
def test_a_pair_makes_and_scores_samples_of_its_shape(kind, shape, classes):
    generator, critic = pair(kind, shape, classes)
    x, labels, z = drawn(shape)
    labels = labels if classes else None
    fake = generator(None, labels, z)
    assert fake.shape == x.shape
    assert critic(fake, labels).shape == critic(x, labels).shape == (len(x),)
    assert (generator.shape, generator.latent, generator.classes, critic.classes) == (shape, LATENT, classes, classes)
    if len(shape) == 3:
        assert fake.abs().max() <= 1


@pytest.mark.parametrize(("kind", "shape", "width"), COUNTS)
def test_the_docstrings_say_how_many_parameters_there_are(kind, shape, width):
    generator, critic = build(kind, shape, 64, 10, width=width)
    counts = COUNTS[kind, shape, width]
    assert (parameters(generator), parameters(critic)) == counts
    page = (dcgan if kind == "dcgan" else resnet).__doc__ or ""
    assert [str(list(shape)), str(width), *(f"{count:,}" for count in counts)] in [
        [line[:16].strip(), *line[16:].split()] for line in page.splitlines()
    ]


@pytest.mark.parametrize(("kind", "file"), [("mlp", mlp), ("fourier", fourier)])
def test_a_docstring_says_how_many_parameters_there_are(kind, file):
    generator, critic = build(kind, (2,), 2)
    said = " ".join((file.__doc__ or "").split())
    assert f"generator {parameters(generator):,} parameters, critic {parameters(critic):,}" in said


def test_of_more_latents_than_a_sample_has_numbers_the_signs_alone_are_read():
    generator, _ = build("fourier", (3,), LATENT, width=8)
    _, _, z = drawn((3,), rows=64)
    x = generator(None, None, z)
    assert torch.equal(x, generator(None, None, torch.cat([z[:, :3], z[:, 3:].sign()], dim=1)))
    for place in range(LATENT):
        other = z.clone()
        other[:, place] *= -1
        assert (generator(None, None, other) != x).any(1).all()


@each_kind
@each_conditioning
def test_a_critic_ends_linear_so_that_its_scores_have_no_bound_on_either_side(kind, conditioning):
    """A sigmoid at the end puts a least-squares target of -1 out of reach, a leaky ReLU squeezes one side."""
    critic = pair(kind, conditioning=conditioning)[1].double()
    x, labels, _ = drawn(SMALL[kind], dtype=torch.float64)
    scores = critic(x, labels)
    last = [critic.score.weight, critic.score.bias]
    last += [critic.by_class.weight] if conditioning == "projection" else []
    for factor in (1e4, -1e4):
        for weight in last:
            weight.data *= factor
        torch.testing.assert_close(critic(x, labels), factor * scores)
        for weight in last:
            weight.data /= factor


@each_kind
@each_conditioning
def test_a_score_depends_on_no_other_row(kind, conditioning):
    _, critic = pair(kind, conditioning=conditioning)
    stir(critic)
    x, labels, _ = drawn(SMALL[kind], dtype=torch.float64)
    critic.double()
    x.requires_grad_()
    scores = critic(x, labels)
    (slope,) = torch.autograd.grad(scores[1], x)
    assert slope[1].abs().max() > 0
    assert slope[[0, 2, 3]].abs().max() == 0
    torch.testing.assert_close(
        torch.cat([critic(row[None], label[None]) for row, label in zip(x, labels, strict=True)]), scores
    )


@each_kind
def test_no_critic_normalises_and_a_penalty_on_it_is_the_sum_of_its_rows(kind):
    """Batch normalisation makes R1, R2 and WGAN-GP meaningless: the gradient of a row's score reaches other rows."""
    critic = pair(kind)[1].double()
    stir(critic)
    assert not [layer for layer in critic.modules() if "Norm" in type(layer).__name__]
    assert not list(critic.buffers())
    x, labels, _ = drawn(SMALL[kind], dtype=torch.float64)

    def slopes(rows: slice) -> torch.Tensor:
        leaf = x[rows].clone().requires_grad_()
        (slope,) = torch.autograd.grad(critic(leaf, labels[rows]).sum(), leaf)
        return slope.square().flatten(1).sum(1)

    torch.testing.assert_close(torch.cat([slopes(slice(i, i + 1)) for i in range(4)]), slopes(slice(4)))


@each_kind
@each_conditioning
def test_a_gradient_reaches_every_parameter(kind, conditioning):
    generator, critic = pair(kind, conditioning=conditioning)
    for net in (generator, critic):
        stir(net)
    x, labels, z = drawn(SMALL[kind], rows=16)
    loss = critic(generator(x, labels, z), labels).square().sum()
    if conditioning == "auxiliary":
        loss = loss + nn.functional.cross_entropy(critic.classify(x), labels)
    loss.backward()
    for name, weight in [*generator.named_parameters(), *critic.named_parameters()]:
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


@each_kind
def test_a_penalty_on_the_slope_can_itself_be_descended(kind):
    _, critic = pair(kind)
    stir(critic)
    x, labels, _ = drawn(SMALL[kind])
    x.requires_grad_()
    (slope,) = torch.autograd.grad(critic(x, labels).sum(), x, create_graph=True)
    slope.square().sum().backward()
    slopes = [weight.grad for weight in critic.body.parameters() if weight.ndim > 1]
    assert all(slope is not None and slope.abs().max() > 0 for slope in slopes)


@each_kind
@pytest.mark.parametrize("conditioning", ["concat", "projection"])
def test_a_score_differs_by_class(kind, conditioning):
    _, critic = pair(kind, conditioning=conditioning)
    x = drawn(SMALL[kind])[0][:1].expand(CLASSES, *SMALL[kind])
    scores = critic(x, torch.arange(CLASSES))
    assert len(set(scores.tolist())) == CLASSES


@each_kind
def test_projection_adds_the_inner_product_with_the_vector_of_the_class(kind):
    _, critic = pair(kind)
    x, labels, _ = drawn(SMALL[kind])
    h = critic.body(x)
    expected = critic.score(h)[:, 0] + (critic.by_class.weight[labels] * h).sum(1)
    torch.testing.assert_close(critic(x, labels), expected)


@each_kind
def test_an_auxiliary_critic_names_classes_and_scores_without_them(kind):
    _, critic = pair(kind, conditioning="auxiliary")
    x, labels, _ = drawn(SMALL[kind])
    assert critic.classify(x).shape == (len(x), CLASSES)
    assert torch.equal(critic(x, labels), critic(x, None))


@each_kind
def test_what_is_made_differs_by_class_and_by_noise_and_not_by_x(kind):
    generator = pair(kind)[0].eval()
    x, _, z = drawn(SMALL[kind])
    labels = torch.arange(4)
    assert torch.equal(generator(x, labels, z), generator(None, labels, z))
    by_class = generator(None, labels, z[:1].expand(4, -1)).flatten(1)
    by_noise = generator(None, labels[:1].expand(4), z).flatten(1)
    for rows in (by_class, by_noise):
        assert torch.pdist(rows).min() > 0


def test_a_dcgan_generator_in_eval_mode_uses_its_running_statistics():
    generator = pair("dcgan")[0]
    x, labels, z = drawn(SMALL["dcgan"])
    generator(x, labels, z)
    before = {name: value.clone() for name, value in generator.named_buffers()}
    whole = generator.eval()(x, labels, z)
    torch.testing.assert_close(torch.cat([generator(None, labels[i : i + 1], z[i : i + 1]) for i in range(4)]), whole)
    assert all(torch.equal(before[name], value) for name, value in generator.named_buffers())


def test_batch_normalisation_keeps_a_small_epsilon():
    """`BatchNorm2d(channels, 0.8)` sets the epsilon, not the momentum."""
    layers = [layer for layer in pair("dcgan", (1, 28, 28))[0].modules() if isinstance(layer, nn.BatchNorm2d)]
    assert layers
    assert {(layer.eps, layer.momentum) for layer in layers} == {(1e-5, 0.1)}


def test_a_residual_branch_begins_at_zero():
    for net in pair("resnet"):
        blocks = [module for module in net.modules() if isinstance(module, resnet.Block)]
        assert len(blocks) == 3
        for block in blocks:
            x = torch.randn(2, block.widen.in_channels, 4, 4)
            assert torch.equal(block(x), x)


@pytest.mark.parametrize("depth", [1, 4])
def test_a_residual_branch_begins_at_a_scale_that_falls_with_the_number_of_blocks(depth):
    _, critic = build("resnet", (1, 16, 16), LATENT, width=64, depth=depth)
    first = [module.widen.weight for module in critic.modules() if isinstance(module, resnet.Block)]
    assert len(first) == 3 * depth
    for weight in first:
        assert weight.std().item() == pytest.approx(len(first) ** -0.25 * weight.shape[1] ** -0.5, rel=0.1)


def test_resampling_keeps_a_constant_and_halving_is_bilinear():
    up, down = resnet.Resample(8, 8, 8), resnet.Resample(8, 8, 4)
    for layer in (up, down):
        layer.mix.weight.data = torch.eye(8)[:, :, None, None]
    flat = torch.ones(1, 8, 4, 4)
    torch.testing.assert_close(up(flat), torch.ones(1, 8, 8, 8))
    x = torch.randn(2, 8, 8, 8)
    torch.testing.assert_close(down(x), nn.functional.interpolate(x, (4, 4), mode="bilinear"))


@pytest.mark.parametrize("shape", IMAGES)
def test_the_sides_halve_twice_and_then_to_four_or_an_odd_number(shape):
    found = sides(shape)
    assert found[0] == shape[1]
    assert all(big == 2 * small for big, small in pairwise(found))
    assert len(found) == 3 or found[-1] >= 3
    assert found[-1] <= 4 or found[-1] % 2


@each_kind
def test_float64_works(kind):
    generator, critic = (net.double() for net in pair(kind))
    x, labels, z = drawn(SMALL[kind], dtype=torch.float64)
    fake = generator(x, labels, z)
    assert fake.dtype == critic(fake, labels).dtype == torch.float64


@each_kind
def test_the_same_seed_gives_the_same_networks_and_the_global_random_state_stays(kind):
    state = torch.get_rng_state()
    once, again, other = (pair(kind, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(state, torch.get_rng_state())
    for a, b, c in zip(once, again, other, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
        assert any(not torch.equal(p, q) for p, q in zip(a.parameters(), c.parameters(), strict=True))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"kind": "dcgam"}, "Did you mean 'dcgan'"),
        ({"conditioning": "projektion"}, "Did you mean 'projection'"),
        ({"kind": "dcgan", "shape": (1, 10, 10)}, "multiple of 4; the samples are \\[1, 10, 10\\]"),
        ({"kind": "resnet", "shape": (1, 8, 12)}, "square"),
        ({"kind": "resnet", "shape": (7,)}, "take the kind 'mlp'"),
        ({"kind": "mlp", "shape": (0,)}, "can be made"),
        ({"kind": "mlp", "shape": (2, 2)}, "can be made"),
        ({"kind": "resnet", "width": 12}, "multiple of 8"),
        ({"kind": "dcgan", "depth": 2}, "Leave it out"),
        ({"latent": 0}, "at least 1"),
        ({"width": 0}, "at least 1"),
        ({"classes": 1}, "at least 2"),
    ],
)
def test_what_cannot_be_built_is_refused(asked, said):
    kind = asked.get("kind", "resnet")
    usual = {"kind": kind, "shape": SMALL.get(kind, (1, 8, 8)), "latent": LATENT, "classes": CLASSES}
    with pytest.raises(InputError, match=said):
        build(**{**usual, **asked})


@each_kind
@pytest.mark.parametrize(("labels", "said"), [(None, "no labels"), ([0, 5], "0 to 4"), ([-1, 2], "from -1 to 2")])
def test_labels_that_are_missing_or_out_of_range_are_refused(kind, labels, said):
    generator, critic = pair(kind)
    labels = None if labels is None else torch.tensor(labels)
    x, _, z = drawn(SMALL[kind], rows=2)
    with pytest.raises(InputError, match=said):
        generator(None, labels, z)
    with pytest.raises(InputError, match=said):
        critic(x, labels)


def test_noise_of_another_length_and_classes_from_a_critic_that_has_none_are_refused():
    generator, critic = pair("mlp")
    x, labels, z = drawn(SMALL["mlp"])
    with pytest.raises(InputError, match="needs \\[b, 6\\]"):
        generator(None, labels, z[:, 1:])
    with pytest.raises(InputError, match="'auxiliary' does"):
        critic.classify(x)
