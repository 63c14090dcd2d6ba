"""Certificates: exact where the answer is known, never above what an attack or a sample finds, and refused by name."""

import importlib.util
import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from linear import best_gain, make
from PIL import Image
from short import SHORT
from torch import nn

import attacks
from attacks import CATALOG, InputError, card_of
from attacks.bounds.operators.bent import _max_pool2d
from attacks.bounds.operators.making import Var
from attacks.bounds.pieces import Largest, Rectifier
from attacks.certify import certify
from attacks.models import Binary, Normalized

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="peer: the folder of outside models and data is not here")
NORMS = ("linf", "l2", "l1", "l0")
EPS = {"linf": 0.05, "l2": 0.3, "l1": 1.0, "l0": 3.0}


def exact_margin(norm, model, x, labels, eps, low, high):
    """[B] of a linear model: the label's logit less the best other one, at its least."""
    logits, each = model(x).detach(), []
    for k in range(logits.shape[1]):
        w = (model.weight[k] - model.weight[labels]).detach().double()
        gain = best_gain(norm, w, high - x, x - low, torch.full((len(x),), eps, dtype=torch.float64))
        each.append(logits.gather(1, labels[:, None]).squeeze(1) - logits[:, k] - gain)
    return torch.stack(each).scatter(0, labels[None], torch.inf).amin(0)


@pytest.mark.parametrize("method", ["crown", "intervals"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-100.0, 101.0)], ids=["box", "free"])
def test_a_linear_model_is_bounded_exactly(norm, method, low, high):
    """But for the slack of 2^-33 of all that is added up, at each of some eight nodes."""
    model, x, labels = make(4, 20, 50)
    for eps in (EPS[norm], 4 * EPS[norm]):
        threat = attacks.ThreatModel.parse(f"{norm}:{eps}", (low, high))
        margin = certify(model, x, labels, threat, method=method).margin
        exact = exact_margin(norm, model, x, labels, eps, low, high)
        reach = max(-low, high) if norm == "l0" else 1 + eps
        slack = 8 * 2**-33 * 2 * float(model.weight.detach().abs().sum(1).max()) * reach
        torch.testing.assert_close(margin, exact, rtol=0, atol=slack)
        assert (margin <= exact).all()


class Everything(nn.Module):
    """Each kind of piece once, spelled as users spell it."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout()
        self.fc1 = nn.Linear(12, 8)
        self.fc2 = nn.Linear(8, 4)
        self.register_buffer("mean", torch.tensor([0.4, 0.5]).view(1, 2, 1, 1))

    def forward(self, x):
        y = self.act(self.bn1(self.conv1((x - self.mean) / 0.3)))
        y = F.leaky_relu(self.conv2(y) + F.pad(x[:, :, ::1], (0, 0, 0, 0, 1, 1)), 0.1) - 0.5 * y
        y = self.up(F.max_pool2d(y, 3, 2, 1)).relu()
        pooled = torch.cat((F.adaptive_avg_pool2d(y, 1).flatten(1), y.mean((2, 3)), torch.zeros(len(x), 1)), 1)
        pooled = torch.cat((pooled, F.avg_pool2d(y, 3).flatten(1)[:, :3].clamp(min=0)), 1)
        return self.fc2(torch.relu(self.drop(self.fc1(pooled.reshape(x.size(0), -1)))))


def everything(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Everything()
        net.train()(torch.rand(64, 2, 6, 6))  # running statistics that are not 0 and 1
        for parameter in net.parameters():
            parameter.data *= 1.5
        return net.eval()


def small(seed=0, side=6):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        flat = 4 * (side // 2) ** 2
        return nn.Sequential(
            nn.Conv2d(2, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(flat, 8), nn.ReLU(), nn.Linear(8, 4)
        )


def images(rows, side=6, seed=1):
    return torch.rand(rows, 2, side, side, generator=torch.Generator().manual_seed(seed))


def margin_of(logits, labels):
    others = logits.double().scatter(1, labels[:, None], -torch.inf).amax(1)
    return logits.double().gather(1, labels[:, None]).squeeze(1) - others


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("make_net", [everything, small])
def test_no_point_of_the_set_has_a_smaller_margin(make_net, norm):
    """Random points, corners, and what an attack finds, at an eps where the bound is close enough to fail."""
    net, x = make_net(), images(12)
    labels = net(x).argmax(1)
    for eps in (EPS[norm], EPS[norm] / 4) if norm != "l0" else (1.0, 3.0):
        threat = attacks.ThreatModel.parse(f"{norm}:{eps}")
        bounds = {m: certify(net, x, labels, threat, method=m).margin for m in ("crown", "intervals")}
        assert (bounds["intervals"] <= bounds["crown"]).all()
        assert bounds["crown"].isfinite().all()
        region = threat.around(x)
        generator = torch.Generator().manual_seed(0)
        lowest = margin_of(net(x), labels).detach()
        for k in range(30):
            noise = torch.randn(x.shape, generator=generator)
            shown = region.reach(noise.sign() if k % 2 else noise)
            lowest = torch.minimum(lowest, margin_of(net(shown), labels).detach())
        ascent = attacks.run("apgd" if norm != "l0" else "pgd", net, x, labels, threat, until="smallest")
        found = margin_of(net(ascent.x_adv), labels).detach()
        lowest = torch.minimum(lowest, found)
        assert (bounds["crown"] <= lowest).all()


def test_crown_is_exact_while_no_unit_changes_sides():
    net, x = small().double(), images(8).double()
    labels = net(x).argmax(1)
    eps = 1e-6
    leaf = x.clone().requires_grad_()
    logits, slopes = net(leaf), []
    for k in range(4):
        (grad,) = torch.autograd.grad(logits[:, k].sum(), leaf, retain_graph=True)
        slopes.append(grad.flatten(1))
    slope = torch.stack(slopes, 1)  # [b, K, d]
    own = slope[torch.arange(8), labels]
    least = logits.gather(1, labels[:, None]) - logits - eps * (own[:, None] - slope).abs().sum(2)
    exact = least.scatter(1, labels[:, None], torch.inf).amin(1).detach()
    torch.testing.assert_close(certify(net, x, labels, f"linf:{eps}").margin, exact, rtol=0, atol=1e-8)


def test_on_a_plane_the_bound_lies_below_the_true_minimum_and_near_it():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = nn.Sequential(nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 2)).double()
    x = torch.tensor([[0.5, 0.5], [0.3, 0.8], [0.1, 0.2]], dtype=torch.float64)
    labels, eps = net(x).argmax(1), 0.1
    line = torch.linspace(-eps, eps, 201, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    for row, label in zip(x, labels, strict=True):
        true = margin_of(net(row + grid), label.expand(len(grid))).min()
        bound = float(certify(net, row[None], label[None], attacks.linf(eps, bounds=(-1.0, 2.0))).margin)
        assert true - 0.1 < bound <= true


def test_without_a_ball_the_margin_is_the_clean_one_less_a_hair_and_it_falls_as_eps_grows():
    net, x = everything(), images(4)
    labels = net(x).argmax(1)
    clean = margin_of(net(x), labels).detach()
    for norm in NORMS:
        steps = (0, 1, 2, 5) if norm == "l0" else (0, EPS[norm] / 8, EPS[norm] / 4, EPS[norm])
        margins = [certify(net, x, labels, f"{norm}:{eps}").margin for eps in steps]
        assert (margins[0] <= clean).all()
        torch.testing.assert_close(margins[0], clean, rtol=0, atol=1e-3)
        assert all((later < earlier).all() for earlier, later in pairwise(margins))


def test_a_row_that_is_wrong_when_clean_is_not_certified():
    net, x = small(), images(8)
    labels = (net(x).argmax(1) + 1) % 4
    certificate = certify(net, x, labels, "linf:0")
    assert not certificate.certified.any()
    assert (certificate.margin < 0).all()


def test_what_is_certified_holds_in_float32_where_its_rounding_decides():
    """Terms near 1e4 that cancel: the margin in real arithmetic is 1e-3, and float32 often has the sign wrong."""
    generator = torch.Generator().manual_seed(0)
    half = torch.rand(400, 64, generator=generator)
    x = torch.cat((half, half), 1)
    weight = 1e4 * torch.rand(64, generator=generator)
    net = nn.Sequential(nn.Linear(128, 2), nn.ReLU())
    net[0].weight.data = torch.stack((torch.cat((weight, -weight)), torch.cat((-weight, weight))))
    net[0].bias.data = torch.tensor([0.0005, 0.0])
    labels = torch.zeros(400, dtype=torch.int64)
    assert (net.double()(x.double())[:, 0] > net(x.double())[:, 1]).all()
    net.float()
    assert (net(x).argmax(1) != 0).any()
    certified = certify(net, x, labels, "linf:0").certified
    assert not (certified & (net(x).argmax(1) != 0)).any()
    net[0].bias.data = torch.tensor([100.0, 0.0])  # far more than rounding can take
    assert certify(net, x, labels, "linf:0").certified.all()


def test_the_batch_the_mode_and_the_spelling_change_nothing():
    net, x = everything(), images(9)
    labels = net(x).argmax(1)
    eps = torch.linspace(0.01, 0.05, 9)
    whole = certify(net, x, labels, attacks.linf(eps)).margin
    assert torch.equal(whole, certify(net, x, labels, attacks.linf(eps), batch_size=4).margin)
    net.train()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    assert torch.equal(whole, certify(net, x, labels, attacks.linf(eps)).margin)
    assert all(module.training for module in net.modules())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


class Spelled(nn.Module):
    def __init__(self, linear1, relu, linear2):
        super().__init__()
        self.linear1, self.relu, self.linear2 = linear1, relu, linear2

    def forward(self, x):
        return self.linear2(self.relu(self.linear1(x.flatten(1))))


def test_every_spelling_of_relu_is_the_same_piece():
    x = images(5)
    first, last = nn.Linear(72, 16), nn.Linear(16, 3)
    spellings = [
        nn.ReLU(), nn.ReLU(inplace=True), F.relu, torch.relu, lambda z: z.relu(), lambda z: z.relu_(),
        lambda z: z.clamp(min=0), lambda z: z.clamp_min(0), lambda z: torch.maximum(z, torch.zeros(())),
        nn.Threshold(0, 0), nn.LeakyReLU(0.0),
    ]  # fmt: skip
    labels = torch.zeros(5, dtype=torch.int64)
    margins = [certify(Spelled(first, relu, last), x, labels, "l2:0.1").margin for relu in spellings]
    for margin in margins[1:]:
        torch.testing.assert_close(margin, margins[0], rtol=0, atol=1e-12)


def test_modules_to_put_round_a_model_can_be_bounded():
    x = images(6)
    inner = small()
    normalized = Normalized(inner, [0.4, 0.5], [0.2, 0.3])
    labels = normalized(x).argmax(1)
    assert certify(normalized, x, labels, "linf:0.001").certified.any()
    binary = Binary(nn.Sequential(nn.Flatten(), nn.Linear(72, 1)))
    assert certify(binary, x, binary(x).argmax(1), "linf:0.0001").certified.any()


def test_a_mask_and_bounds_per_feature_are_honoured():
    model, x, labels = make(3, 20, 30)
    mask = torch.zeros(20)
    mask[:5] = 1
    low, high = (x - 0.02).clamp_min(0), (x + 0.01).clamp_max(1)
    for norm in NORMS:
        eps = torch.full((30,), EPS[norm], dtype=torch.float64)
        threat = getattr(attacks, norm)(EPS[norm], bounds=(low, high), mask=mask)
        up, down = (high - x) * mask, (x - low) * mask
        gains = [best_gain(norm, (model.weight[k] - model.weight[labels]).detach(), up, down, eps) for k in range(3)]
        logits = model(x).detach()
        exact = torch.stack([logits.gather(1, labels[:, None])[:, 0] - logits[:, k] - gains[k] for k in range(3)])
        exact = exact.scatter(0, labels[None], torch.inf).amin(0)
        torch.testing.assert_close(certify(model, x, labels, threat).margin, exact, rtol=0, atol=1e-7)


def test_a_grid_of_levels_is_taken_for_continuous():
    net = small()
    x = (images(8) * 255).round() / 255
    labels = net(x).argmax(1)
    for norm in ("linf", "l2", "l1"):
        smooth, grid = (certify(net, x, labels, attacks.ThreatModel.parse(f"{norm}:{EPS[norm]}")) for _ in range(2))
        grid = certify(net, x, labels, getattr(attacks, norm)(EPS[norm], levels=255))
        if norm != "linf":  # there eps is cut to whole levels, and half a level is added
            assert (grid.margin <= smooth.margin).all()
        torch.testing.assert_close(grid.margin, smooth.margin, rtol=0, atol=0.02)


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.randn(x.shape[1:])


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Detour(nn.Module):
    def forward(self, x):
        return x + torch.from_numpy(x.detach().numpy().copy())


class AcrossRows(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class Counting(nn.Module):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.calls


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (nn.Sequential(nn.GELU()), r"'gelu' \(aten.gelu.default, in Sequential.1.0\): this operator is not known"),
        (nn.Sigmoid(), r"'sigmoid' \(aten.sigmoid.default, in Sequential.1\)"),
        (nn.Hardtanh(), "'hardtanh'"),
        (nn.BatchNorm2d(2, track_running_stats=False), "the batch's own statistics"),
        (Noisy(), r"'randn' .*it draws random numbers"),
        (Branching(), "must not branch on their values"),
        (Detour(), "differs from row to row"),
        (AcrossRows(), r"'mean' .*across the rows of a batch"),
        (Counting(), "does not give again what it gave"),
    ],
)
def test_what_cannot_be_bounded_is_refused_and_named(layer, said):
    net = nn.Sequential(nn.Conv2d(2, 2, 1), layer, nn.Flatten(), nn.Linear(72, 3))
    with pytest.raises(InputError, match=said):
        certify(net, images(4), torch.zeros(4, dtype=torch.int64), "linf:0.1")


def test_input_that_cannot_be_used_is_refused():
    net, x, labels = small(), images(4), torch.zeros(4, dtype=torch.int64)
    for said, arguments, options in (
        ("There is no method 'magic'", (net, x, labels, "linf:0.1"), {"method": "magic"}),
        ("no norm 'linff'", (net, x, labels, "linff:0.1"), {}),
        ("Labels run from", (net, x, labels + 9, "linf:0.1"), {}),
        ("float32 or float64", (net, x.int(), labels, "linf:0.1"), {}),
        ("the bounds are", (net, x * 3, labels, "linf:0.1"), {}),
        ("torch.nn.Module is needed", (print, x, labels, "linf:0.1"), {}),
        ("leaves some inputs unbounded", (net, x, labels, attacks.l2(torch.inf, bounds=(-torch.inf, torch.inf))), {}),
    ):
        with pytest.raises(InputError, match=said):
            certify(*arguments, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("below", [0.0, 0.1, 1.0])
def test_the_lines_of_a_rectifier_hold_and_the_upper_one_meets_it_at_both_ends(below):
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(200, 5, generator=generator, dtype=torch.float64)
    high = low + torch.rand(low.shape, generator=generator, dtype=torch.float64)
    high[:3], low[3:6], high[6:9] = low[:3], 0.0, 0.0  # no room; a corner at either end
    low, high = torch.minimum(low, high), torch.maximum(low, high)
    piece = Rectifier(below)
    lines = piece.lines(low, high)
    for share in torch.linspace(0, 1, 21):
        z = low + share * (high - low)
        assert (lines.lower * z <= piece(z) + 1e-12).all()
        assert (lines.upper * z + lines.offset >= piece(z) - 1e-12).all()
    for end in (low, high):
        torch.testing.assert_close(lines.upper * end + lines.offset, piece(end), rtol=0, atol=1e-12)


@pytest.mark.parametrize("how", [(2,), (3, 2, 1), (2, 3, 0, 2), (3, 2, 0, 1, True), ((2, 3), (1, 2))])
def test_the_windows_of_a_pool_are_those_of_pytorch_and_its_lines_hold(how):
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(2, 3, 7, 8, generator=generator, dtype=torch.float64)
    high = low + 2 * torch.rand(low.shape, generator=generator, dtype=torch.float64)
    low[0, 0], high[0, 0] = 0.0, 0.0  # no room at all
    out = F.max_pool2d(low, *how)
    piece = _max_pool2d(tuple(out.shape), Var(0, tuple(low.shape)), *how).piece
    assert isinstance(piece, Largest)
    assert torch.equal(piece(low), out)
    lines = piece.lines(low, high)
    rows = torch.arange(2)
    for _ in range(50):
        z = low + (high - low) * torch.rand(low.shape, generator=generator, dtype=torch.float64)
        form = torch.randn(out.shape, generator=generator, dtype=torch.float64)
        offset, pulled = piece.pulled(form, lines.of(rows), tuple(low.shape[1:]))
        least = offset.flatten(1).sum(1) + (pulled * z).flatten(1).sum(1)
        assert (least <= (form * piece(z)).flatten(1).sum(1) + 1e-12).all()


@pytest.fixture(scope="module")
def task():
    """A net and rows of which, in each norm, some are certified and some are broken."""
    net, x = small(5), images(40, seed=7)
    labels = net(x).argmax(1)
    eps = {"linf": 0.01, "l2": 0.06, "l1": 0.15, "l0": 1.0}
    return net, x, labels, eps, {norm: certify(net, x, labels, f"{norm}:{eps[norm]}").certified for norm in NORMS}


@pytest.mark.parametrize("norm", NORMS)
def test_the_task_has_rows_of_both_kinds(task, norm):
    net, x, labels, eps, certified = task
    assert certified[norm].any()
    assert attacks.run("pgd", net, x, labels, f"{norm}:{eps[norm]}").fooled.any()


@pytest.mark.parametrize("name", CATALOG)
def test_no_attack_breaks_a_certified_row(task, name):
    net, x, labels, eps, certified = task
    options = {"surrogate": small(6)} if name == "transferred" else SHORT.get(name, {})
    attack = CATALOG[name](**options)
    card = card_of(attack)
    for norm in card.norms:
        radius = "inf" if card.eps == "inf" else eps[norm]
        result = attacks.run(attack, net, x, labels, f"{norm}:{radius}")
        assert not (result.fooled & (result.size <= eps[norm]) & certified[norm]).any()


def shared(name):
    spec = importlib.util.spec_from_file_location("outside_models", SHARED / "models.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)()


@needs_shared
def test_a_residual_network_is_bounded_closely_enough_to_certify_rows():
    """Published for all of the original test images: 57.16 % at 1/255."""
    data = pd.read_parquet(SHARED / "cifar10_jpeg_test.parquet")[:3]
    pictures = [np.array(Image.open(io.BytesIO(image["bytes"])).convert("RGB")) for image in data["image"]]
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    labels = torch.tensor([int(label) for label in data["label"]])
    net = shared("resnet2b")
    certified = certify(net, x, labels, "linf:1/255").certified
    assert certified.any()
    assert not attacks.run("apgd", net, x, labels, "linf:1/255").fooled[certified].any()


@needs_shared
def test_a_network_trained_to_be_certified_is():
    """Published for all of the test set: 94.2 % (dual LP)."""
    with np.load(SHARED / "mnist_test.npz") as data:
        x = torch.from_numpy(data["x"][:12]).float()[:, None] / 255
        labels = torch.from_numpy(data["y"][:12]).long()
    net = shared("kw_mnist_01")
    certified = certify(net, x, labels, "linf:0.1").certified
    assert int(certified.sum()) >= 11
    assert not attacks.run("apgd", net, x, labels, "linf:0.1").fooled[certified].any()
    assert not certify(net, x, labels, "linf:0.1", method="intervals").certified.any()
