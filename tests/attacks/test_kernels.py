"""Do the fused operations do what they say, and do the Triton twins do the same?"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize
from short import SHORT
from torch.nn import functional

import attacks
from attacks import APGD, Goal, ThreatModel, Victim, kernels
from attacks.kernels import reference
from attacks.norms import NORMS
from attacks.rows import Rows

pytest.importorskip("triton", reason="this machine has no Triton")

import triton
import triton.language as tl

from attacks.kernels import triton_twins as twins
from attacks.kernels.triton_noise import philox

ROOT = Path(__file__).parents[2]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = [1, 63, 1000, 1025, 3072]
CLASSES = [2, 3, 4, 10, 63, 1000]
DTYPES = [torch.float32, torch.float64]
HALVES = [torch.bfloat16, torch.float16]
LOSSES = ["margin", "dlr", "cross_entropy"]
GUARD = 64


@pytest.fixture(autouse=True)
def infinity_is_no_warning():
    """The interpreter computes in numpy, which warns where a GPU gives inf."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture
def poisoned(monkeypatch):
    """What torch allocates uninitialised comes full of poison, with more poison behind it that must still be there."""
    buffers = []

    def empty(*size, dtype=torch.float32, device=None):
        shape = torch.Size(size[0] if len(size) == 1 and not isinstance(size[0], int) else size)
        poison = float("nan") if dtype.is_floating_point else 1 if dtype == torch.bool else -77
        buffers.append(torch.full((shape.numel() + GUARD,), poison, dtype=dtype, device=device))
        return buffers[-1][: shape.numel()].view(shape)

    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch, "empty_like", lambda like: empty(like.shape, dtype=like.dtype, device=like.device))
    yield
    assert buffers
    for buffer in buffers:
        behind = buffer[-GUARD:]
        assert (behind.isnan() if behind.is_floating_point() else behind == buffer.new_full((), -77)).all()


def generator(*seed):
    return torch.Generator().manual_seed(hash(seed) % 2**31)


def images(rows, width, dtype, boxed=True):
    """x, x_adv, direction, length, radius, low, high: rows of every kind, a mask over every third coordinate."""
    g = generator(rows, width, boxed)

    def normal():
        return torch.randn(rows, width, generator=g, dtype=torch.float64)

    x = (torch.rand(rows, width, generator=g, dtype=torch.float64) * 1.4 - 0.2).clamp(0, 1)
    low, high = (torch.zeros_like(x), torch.ones_like(x)) if boxed else (x - 50, x + 50)
    low[:, 1::3] = high[:, 1::3] = x[:, 1::3]
    x_adv = (x + 0.1 * normal()).clamp(low, high)
    direction = normal() ** 3 * 1e-3
    length = torch.tensor([0.5, 10.0, 20.0, torch.inf, 3.0], dtype=torch.float64)[:rows]
    radius = torch.tensor([0.7, torch.inf, 2.0, 0.05, 0.0], dtype=torch.float64)[:rows]
    direction[2:3] = 0
    tensors = (x, x_adv, direction, length, radius, low, high)
    return tuple(tensor.to(dtype).to(DEVICE) for tensor in tensors)


def assert_near(got, wanted, ulps=64):
    scale = max(1.0, wanted[wanted.isfinite()].abs().max().item())
    assert got.dtype == wanted.dtype
    torch.testing.assert_close(got, wanted, rtol=0, atol=ulps * torch.finfo(wanted.dtype).eps * scale)


def small():
    """A network of five classes, inputs [8, 3, 4, 4] and its answers."""
    torch.manual_seed(0)
    layers = (torch.nn.Flatten(), torch.nn.Linear(48, 16), torch.nn.Tanh(), torch.nn.Linear(16, 5))
    model = torch.nn.Sequential(*layers).to(DEVICE).eval()
    x = torch.rand(8, 3, 4, 4, generator=generator(1)).to(DEVICE)
    return model, x, model(x).argmax(1)


def logits_of(rows, classes, dtype):
    g = generator(rows, classes)
    logits = 4 * torch.randn(rows, classes, generator=g, dtype=torch.float64)
    labels = torch.randint(classes, (rows,), generator=g)
    labels[0] = logits[0].argmax()
    versus = (labels + 1 + torch.randint(classes - 1, (rows,), generator=g)) % classes
    return logits.to(dtype).to(DEVICE), labels.to(DEVICE), versus.to(DEVICE)


def test_on_a_cpu_nothing_of_triton_is_imported():
    script = (
        "import sys, torch; from attacks import kernels\n"
        "x = torch.rand(2, 3); kernels.step_linf(x, x, x[:, 0], x, x)\n"
        "kernels.uniform(0, torch.arange(2), 0, 3, torch.float32)\n"
        "assert not [name for name in sys.modules if name.startswith('attacks.kernels.triton')]"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_every_kernel_compiles_for_a_gpu(tmp_path):
    """The interpreter accepts more than the compiler does."""
    pytest.importorskip("triton.backends.nvidia.compiler", reason="this Triton cannot compile for CUDA")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", str(ROOT / "tests/attacks/compile_kernels.py")]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) >= 65


# Steps


@pytest.mark.parametrize(
    ("dtype", "boxed"),
    [(torch.float32, True), (torch.float64, True), (torch.float32, False)],
    ids=["float32", "float64", "no_box"],
)
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("width", SIZES)
def test_a_step_is_the_same_in_triton(poisoned, width, rows, dtype, boxed):
    x, x_adv, direction, length, radius, low, high = images(rows, width, dtype, boxed)
    wanted = reference.step_linf(x_adv, direction, length, low, high)
    assert torch.equal(twins.step_linf(x_adv, direction, length, low, high), wanted)
    wanted = reference.step_l2(x, x_adv, direction, length, radius, low, high)
    assert wanted.isfinite().all()
    assert_near(twins.step_l2(x, x_adv, direction, length, radius, low, high), wanted)


@pytest.mark.parametrize("inertia", [0.0, 0.25])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("width", SIZES)
def test_a_step_that_remembers_the_best_is_the_same_in_triton(poisoned, width, rows, dtype, inertia):
    x, x_adv, grad, length, radius, low, high = images(rows, width, dtype)
    better = torch.tensor([True, False, True, True, False], device=DEVICE)[:rows]
    each = []
    for module in (reference, twins):
        kept = [torch.full_like(x, 7.0), torch.full_like(x, 8.0)]
        state = (x_adv, (x + x_adv) / 2, grad, better, *kept, length)
        plain = module.ascend_linf(*state, low, high, None, inertia)
        scaled = module.ascend_linf(*state, low, high, x_adv + 0.5, inertia)
        each.append((plain, scaled, *kept, module.ascend_l2(x, *state, radius, low, high, inertia)))
    for wanted, got in zip(*(some[:-1] for some in each), strict=True):
        assert torch.equal(got, wanted)
    assert_near(each[1][-1], each[0][-1])
    best, best_grad = each[1][2:4]
    assert torch.equal(best[better], x_adv[better])
    assert torch.equal(best_grad[better], grad[better])
    assert (best[~better] == 7.0).all()
    assert (best_grad[~better] == 8.0).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_apgd_finds_the_same_where_its_step_is_triton(norm, monkeypatch):
    """Rows that leave, rows that go back to their best, a mask and a start that the best must not write into."""
    model, x, labels = small()
    x = x.contiguous(memory_format=torch.channels_last)
    threat = ThreatModel(NORMS[norm], 0.3 if norm == "linf" else 1.5, mask=(x[0] > 0.2).float())
    attack = APGD(steps=12, loss="margin", start="input")
    results, before = [], x.clone()
    for some in (reference, twins):
        monkeypatch.setattr(kernels, "ascend_linf", some.ascend_linf)
        monkeypatch.setattr(kernels, "ascend_l2", some.ascend_l2)
        results.append(attacks.run(attack, Victim(model), x, Goal(labels), threat))
    wanted, got = results
    assert 0 < int(wanted.fooled.sum()) < len(x)
    assert torch.equal(x, before)
    assert torch.equal(got.step, wanted.step)
    torch.testing.assert_close(got.x_adv, wanted.x_adv, rtol=0, atol=0 if norm == "linf" else 1e-5)


@pytest.mark.parametrize("longest", [1.0, 1e9])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("width", SIZES)
def test_the_way_back_is_the_same_in_triton(poisoned, width, rows, dtype, longest):
    x, _, direction, _, radius, low, high = images(rows, width, dtype)
    z = x + 1000 * direction
    wanted = reference.shrink_l2(x, z, radius, low, high, longest)
    assert wanted.isfinite().all()
    assert_near(twins.shrink_l2(x, z, radius, low, high, longest), wanted)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [1, 63, 1025, 4097])
def test_the_way_back_to_an_l1_ball_is_the_same_in_triton(poisoned, width, dtype):
    x, _, direction, _, _, low, high = images(5, width, dtype)
    radius = torch.tensor([0.3, torch.inf, 2.0, 1e-6, 0.0], dtype=dtype, device=DEVICE) * width**0.5
    for z in (x + 1000 * direction, x + 0.3 * direction.sign()):
        wanted = reference.project_l1(x, z, radius, low, high)
        got = twins.project_l1(x, z, radius, low, high)
        assert ((low <= got) & (got <= high)).all()
        assert ((got.double() - x.double()).abs().sum(1) <= radius.double() * (1 + 1e-12)).all()
        assert_near(got, wanted, ulps=4 if dtype == torch.float32 else 64)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", SIZES)
def test_a_grid_point_is_the_same_in_triton(poisoned, width, dtype):
    """Of one try and of three, from whole levels, halves and what rounding leaves of whole ones."""
    g = generator(width)
    x = torch.randint(0, 256, (4, width), generator=g).to(dtype) / 255
    whole = torch.randint(-20, 21, (3, 4, width), generator=g)
    near = torch.tensor([0.0, 0.5, 1e-4, -1e-4, 2e-3, -2e-3], dtype=torch.float64)
    off = near[torch.randint(6, (3, 4, width), generator=g)]
    x_adv = (x.double() + (whole + off) / 255).to(dtype)
    x_adv[1, 2, width // 2] = torch.nan
    # On the CPU, for a GPU divides by 255 in that it multiplies by 1 / 255.
    wanted = reference.on_grid(x, x_adv, 255)
    for tries, points in ((x_adv, wanted), (x_adv[0], wanted[0])):
        got = twins.on_grid(x.to(DEVICE), tries.to(DEVICE), 255).cpu()
        torch.testing.assert_close(got, points, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("width", SIZES)
def test_a_step_in_a_half_type_is_the_float32_one_rounded(poisoned, width, dtype):
    """The reference rounds after every operation, Triton once; the interpreter cuts bfloat16 off instead."""
    tensors = images(5, width, dtype)
    x, x_adv, direction, length, radius, low, high = tensors
    wide_x, *_, wide_low, wide_high = wide = [each.float() for each in tensors]
    wanted = reference.step_linf(wide[1], wide[2], wide[3], wide_low, wide_high)
    got = twins.step_linf(x_adv, direction, length, low, high)
    assert_near(got, wanted.to(dtype), ulps=1 if dtype == torch.bfloat16 else 0)
    assert_near(got, reference.step_linf(x_adv, direction, length, low, high), ulps=1)
    got = twins.step_l2(x, x_adv, direction, length, radius, low, high)
    assert_near(got, reference.step_l2(*wide).to(dtype), ulps=1)
    size = (got.double() - x.double()).norm(dim=1)
    assert (size <= radius.double() + torch.finfo(dtype).eps * wide_x.double().norm(dim=1)).all()


def test_a_row_wider_than_one_block_is_the_same_in_triton(poisoned):
    x, x_adv, direction, length, radius, low, high = images(2, 4097, torch.float32)
    wanted = reference.step_l2(x, x_adv, direction, length, radius, low, high)
    assert_near(twins.step_l2(x, x_adv, direction, length, radius, low, high), wanted)


def test_tensors_may_lie_in_memory_as_they_like(poisoned):
    x, x_adv, direction, length, radius, _, high = images(5, 63, torch.float32)
    low = x.new_zeros(1, 63).expand(5, -1)
    wanted = reference.step_l2(x, x_adv, direction, length, radius, low, high)
    x, x_adv, direction = (tensor.t().contiguous().t() for tensor in (x, x_adv, direction))
    radius = torch.stack((radius, radius), 1)[:, 0]
    assert_near(twins.step_l2(x, x_adv, direction, length, radius, low, high), wanted)
    logits, labels, _ = logits_of(5, 10, torch.float32)
    wanted = reference.margin(logits, labels, False)
    for got, want in zip(twins.margin(logits.t().contiguous().t(), labels, False), wanted, strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("kernels", [reference, twins], ids=["reference", "triton"])
def test_nan_in_an_image_is_not_hidden(kernels):
    x, x_adv, direction, length, radius, low, high = images(5, 63, torch.float32)
    x_adv[1, 7] = torch.nan
    moved = kernels.step_linf(x_adv, direction, length, low, high)
    assert moved.isnan().nonzero().tolist() == [[1, 7]]
    moved = kernels.step_l2(x, x_adv, direction, length, radius, low, high)
    assert moved.isnan().any(1).tolist() == [False, True, False, False, False]


@pytest.mark.parametrize("kernels", [reference, twins], ids=["reference", "triton"])
@pytest.mark.parametrize("width", [1, 63, 1025])
def test_a_row_is_moved_the_same_in_any_company(width, kernels):
    tensors = images(5, width, torch.float32)
    x, x_adv, direction, length, radius, low, high = tensors if kernels is twins else (each.cpu() for each in tensors)
    together = kernels.step_l2(x, x_adv, direction, length, radius, low, high)
    for at in range(5):
        row = slice(at, at + 1)
        alone = kernels.step_l2(x[row], x_adv[row], direction[row], length[row], radius[row], low[row], high[row])
        assert torch.equal(together[row], alone)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", SIZES)
def test_the_way_back_ends_on_the_radius_or_in_the_corner_of_the_box(width, dtype):
    x, _, direction, _, radius, low, high = images(5, width, dtype)
    for longest in (1.0, 1e9):
        z = x + 1000 * direction
        back = reference.shrink_l2(x, z, radius, low, high, longest)
        size = (back - x).double().norm(dim=1)
        assert (size <= radius.double() * (1 + 1e-6)).all()
        furthest = (x + longest * (z - x)).clamp(low, high)
        available = (furthest - x).double().norm(dim=1)
        assert (size >= 0.99 * torch.minimum(available, radius.double())).all()
        assert ((low <= back) & (back <= high)).all()


def shrunk(x, z, radius, low, high):
    """shrink_l2 of one row [1, d] of numpy float64."""
    x, z, radius, low, high = (torch.from_numpy(a) for a in (x, z, np.array([radius]), low, high))
    return reference.shrink_l2(x, z, radius, low, high).numpy()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.floats(0.001, 10), st.floats(-2, 3))
def test_no_point_of_ball_and_box_is_nearer(seed, width, radius, exponent):
    rng = np.random.default_rng(seed)
    x, low, high = rng.random((1, width)), np.zeros((1, width)), np.ones((1, width))
    z = x + 10**exponent * rng.standard_normal((1, width)) ** 3
    back = shrunk(x, z, radius, low, high)
    others = rng.random((200, width)) - x
    others *= np.minimum(1, radius / np.linalg.norm(others, axis=1, keepdims=True))
    # A convex set's nearest point p to z is known by (z - p) . (y - p) <= 0 for every y of the set.
    assert ((z - back) * (x + others - back)).sum(1).max() <= 1e-9 * (1 + np.abs(z).max())


def test_scipy_finds_the_same_projection():
    rng = np.random.default_rng(0)
    low, high = np.zeros((1, 6)), np.ones((1, 6))
    for radius in (0.2, 0.6, 1.0):
        x, z = rng.random((1, 6)), rng.random((1, 6)) * 4 - 1.5
        back = shrunk(x, z, radius, low, high)
        inside = {"type": "ineq", "fun": lambda p, x=x, radius=radius: radius**2 - ((p - x) ** 2).sum()}
        found = minimize(
            lambda p, z=z: ((p - z) ** 2).sum(), x[0], bounds=[(0, 1)] * 6, constraints=[inside], tol=1e-14
        )
        np.testing.assert_allclose(back[0], found.x, atol=1e-6)


@pytest.mark.parametrize("kernels", [reference, twins], ids=["reference", "triton"])
@pytest.mark.parametrize("scale", [1e-25, 1e-40, 1e25])
def test_a_direction_of_any_size_gives_the_same_step(kernels, scale):
    x, x_adv, direction, length, radius, low, high = (tensor[:2] for tensor in images(5, 63, torch.float32))
    direction = direction.sign() + 0.5 * (direction > 0)  # exact in few bits, which is all that 1e-40 has
    wanted = reference.step_l2(x, x_adv, direction, length, radius, low, high)
    got = kernels.step_l2(x, x_adv, direction * scale, length, radius, low, high)
    if scale > 1e-38:
        assert_near(got, wanted)
    else:
        assert got.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 7, 3), (2, 20, 25), (1, 41, 25), (3, 32, 32)], ids=str)
def test_a_square_is_painted_the_same_in_triton(poisoned, shape, dtype):
    """63, 1000, 1025 and 3072 numbers; the luck of many draws at once, as an attack hands it over."""
    channels, height, width = shape
    x, x_adv, _, _, _, low, high = images(5, channels * height * width, dtype)
    luck = torch.rand(5, 4, 2 + channels, generator=generator(shape), dtype=torch.float64).to(dtype)
    luck[:2, :, :2] = torch.tensor([[[0.0]], [[1 - 1e-7]]])
    colour = (luck[:, 2, 2:] - 0.5).to(DEVICE)
    x_adv[4, -1] = torch.nan
    for side in {1, (min(height, width) + 1) // 2, min(height, width)}:
        pictures = x.view(-1, *shape), x_adv.view(-1, *shape)
        arguments = (*pictures, luck.to(DEVICE)[:, 2, :2], side, colour, low, high)
        got, wanted = twins.recolour(*arguments), reference.recolour(*arguments)
        torch.testing.assert_close(got, wanted, rtol=0, atol=0, equal_nan=True)


# Rows


@pytest.mark.parametrize("rows", [[], [3], [4, 0, 1]], ids=str)
@pytest.mark.parametrize("width", SIZES)
def test_rows_of_any_tensors_are_the_same_in_triton(poisoned, width, rows):
    g = generator(width)
    image = torch.randn(5, width, generator=g, dtype=torch.float64)
    image[4, 0] = torch.nan
    types = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int8, torch.bool)
    tensors = [image.nan_to_num(1.0).to(dtype) if not dtype.is_floating_point else image.to(dtype) for dtype in types]
    tensors += [image[:, 0] > 0, image[:, 0], image[:, :, None].expand(-1, -1, 2), image.float().t().contiguous().t()]
    tensors += [image.bfloat16().flatten()[width % 2 :][: 4 * width].view(4, width).repeat(2, 1)[:5], image[:, :0]]
    tensors = [each.to(DEVICE) for each in tensors]
    at = torch.tensor(rows, dtype=torch.int64, device=DEVICE)
    for got, wanted in zip(twins.take_rows(tensors, at), reference.take_rows(tensors, at), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=0, equal_nan=True)
    assert twins.take_rows([], at) == []


@pytest.mark.parametrize("name", ["apgd", "pgd_adam", "nes", "transferred"])
def test_all_that_lives_on_rows_is_cut_in_one_launch_and_a_run_finds_the_same(name, monkeypatch):
    """Objects on rows (Adam's moments, what a surrogate is asked next, the trace) and queries of many tries, too."""
    model, x, labels = small()
    attack = attacks.CATALOG["pgd"](steps=8) if name == "transferred" else attacks.CATALOG[name](**SHORT[name])
    attack = attacks.Transferred(attack, model, every=2) if name == "transferred" else attack
    threat = attacks.linf(torch.linspace(0.05, 0.8, len(x)))
    wanted = attacks.run(attack, model, x, labels, threat, watch=True, compact_below=0.0)
    cuts, launches, whole_keep = [], [], Rows.keep

    def keep(rows, at, *beside):
        cuts.append(len(at))
        return whole_keep(rows, at, *beside)

    def take_rows(tensors, rows):
        launches.append(len(rows))
        return twins.take_rows(tensors, rows)

    monkeypatch.setattr(Rows, "keep", keep)
    monkeypatch.setattr(kernels, "take_rows", take_rows)
    got = attacks.run(attack, model, x, labels, threat, watch=True)
    assert len(cuts) > 0
    assert launches == cuts
    for field in ("x_adv", "fooled", "queries", "backwards", "step", "passes"):
        assert torch.equal(getattr(got, field), getattr(wanted, field)), field


# Losses


@pytest.mark.parametrize("opponent", [False, True], ids=["best", "versus"])
@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("classes", CLASSES)
def test_a_loss_is_the_same_in_triton(poisoned, classes, dtype, targeted, opponent):
    logits, labels, versus = logits_of(2, classes, dtype)
    for loss in LOSSES:
        arguments = (logits, labels, targeted, versus if opponent else None)
        value, slope, reached = getattr(twins, loss)(*arguments)
        wanted_value, wanted_slope, wanted_reached = getattr(reference, loss)(*arguments)
        assert_near(value, wanted_value)
        assert_near(slope, wanted_slope)
        assert torch.equal(reached, wanted_reached)
    assert torch.equal(twins.verdict(logits, labels, targeted), reference.verdict(logits, labels, targeted))


@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("classes", CLASSES)
def test_a_loss_of_logits_in_a_half_type_is_the_float32_one_rounded(poisoned, classes, dtype, targeted):
    logits, labels, versus = logits_of(2, classes, dtype)
    first = torch.arange(min(4, classes), device=DEVICE)
    logits[:, first * (classes // len(first))] = 16 + 2 * first.to(dtype)  # no two leaders alike, as halves often are
    for loss in LOSSES:
        value, slope, reached = getattr(twins, loss)(logits, labels, targeted, versus)
        wanted = getattr(reference, loss)(logits.float(), labels, targeted, versus)
        assert_near(value, wanted[0].to(dtype), ulps=1)
        assert_near(slope, wanted[1].to(dtype), ulps=1)
        assert torch.equal(reached, wanted[2])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("classes", CLASSES)
def test_a_slope_over_its_largest_entry_is_the_same_in_triton(poisoned, classes, dtype):
    slope, _, _ = logits_of(3, classes, dtype)
    slope = slope * torch.tensor([[1.0], [1e-30], [0.0]], dtype=dtype, device=DEVICE)
    got = twins.over_largest(slope)
    assert_near(got, reference.over_largest(slope), ulps=2)
    assert_near(got.abs().amax(1), torch.tensor([1.0, 1.0, 0.0], dtype=dtype, device=DEVICE), ulps=2)


@pytest.mark.parametrize("opponent", [False, True], ids=["best", "versus"])
@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_slope_is_the_gradient_of_the_plain_formula(loss, classes, targeted, opponent):
    logits, labels, versus = (tensor.cpu() for tensor in logits_of(8, classes, torch.float64))
    logits.requires_grad_()
    label = logits.gather(1, labels[:, None])[:, 0]
    rival = logits.masked_fill(functional.one_hot(labels, classes).bool(), -torch.inf).amax(1)
    if opponent:
        rival = logits.gather(1, versus[:, None])[:, 0]
    formula = label - rival if targeted else rival - label
    if loss == "dlr" and classes > 2:
        z = logits.sort(1, descending=True).values
        formula = formula / (z[:, 0] - ((z[:, 2] + z[:, 3]) / 2 if targeted and classes > 3 else z[:, 2]))
    if loss == "cross_entropy":
        formula = functional.cross_entropy(logits, labels, reduction="none") * (-1 if targeted else 1)
    (wanted,) = torch.autograd.grad(formula.sum(), logits)
    value, slope, _ = getattr(reference, loss)(logits.detach(), labels, targeted, versus if opponent else None)
    torch.testing.assert_close(value, formula.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(slope, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kernels", [reference, twins], ids=["reference", "triton"])
def test_the_slope_of_cross_entropy_does_not_vanish_for_a_certain_victim(kernels):
    logits = torch.tensor([[40.0, 0.0, -1.0]], device=DEVICE)
    _, slope, _ = kernels.cross_entropy(logits, torch.tensor([0], device=DEVICE), False)
    exact = logits.double().softmax(1)
    exact[:, 0] = -exact[:, 1:].sum(1)
    torch.testing.assert_close(slope.double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kernels", [reference, twins], ids=["reference", "triton"])
@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_are_not_finite_are_never_reached(kernels, targeted, bad):
    logits = torch.tensor([[9.0, 1.0, 3.0]] * 3, device=DEVICE).fill_diagonal_(bad)
    for label in range(3):
        labels = torch.full((3,), label, device=DEVICE)
        assert not kernels.verdict(logits, labels, targeted).any()
        for loss in LOSSES:
            value, _, reached = getattr(kernels, loss)(logits, labels, targeted)
            assert not reached.any()
            if bad != bad:
                assert torch.equal(value.isnan(), getattr(reference, loss)(logits, labels, targeted)[0].isnan())


@pytest.mark.parametrize("kernels", [reference, twins], ids=["reference", "triton"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_lead_within_rounding_is_no_lead(kernels, dtype):
    ulp = torch.finfo(dtype).eps
    leads = torch.tensor([-1.0, 0.0, 0.5, 1.0, 1.5, 2.0], dtype=torch.float64) * reference.CERTAIN * ulp
    logits = torch.stack((torch.ones_like(leads) - leads, torch.ones_like(leads)), 1).to(dtype).to(DEVICE)
    first = torch.zeros(6, dtype=torch.int64, device=DEVICE)
    wanted = [False, False, False, False, True, True]
    assert kernels.verdict(logits, first, False).tolist() == wanted
    assert kernels.verdict(logits, first + 1, True).tolist() == wanted


@pytest.mark.parametrize("kernels", [reference, twins], ids=["reference", "triton"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("masked", [-1e4, -1e9, -3e38, 1e-3], ids=str)
def test_a_class_that_is_masked_out_does_not_say_how_clear_a_lead_must_be(kernels, dtype, masked):
    leads = torch.tensor([-0.1, 0.0, 0.1, 1.0], dtype=dtype)
    logits = torch.stack((3 - leads, torch.full_like(leads, 3.0), torch.full_like(leads, masked)), 1).to(DEVICE)
    first = torch.zeros(4, dtype=torch.int64, device=DEVICE)
    wanted = [False, False, True, True]
    assert kernels.verdict(logits, first, False).tolist() == wanted
    assert kernels.verdict(logits, first + 1, True).tolist() == wanted
    for loss in LOSSES:
        assert getattr(kernels, loss)(logits, first, False)[2].tolist() == wanted


@pytest.mark.parametrize("kernels", [reference, twins], ids=["reference", "triton"])
@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
@pytest.mark.parametrize(
    "row", [[0.0] * 5, [3.0, 3.0, 3.0, 3.0, -2.0], [1e-30] * 5, [2.0, 1.0, 1.0, 1.0, 1.0]], ids=str
)
def test_equal_logits_give_finite_losses_and_slopes(kernels, targeted, row):
    logits = torch.tensor([row] * 5, device=DEVICE)
    for loss in LOSSES:
        value, slope, _ = getattr(kernels, loss)(logits, torch.arange(5, device=DEVICE), targeted)
        assert value.isfinite().all()
        assert slope.isfinite().all()
        assert slope.abs().max() < 100


# Noise

KNOWN_ANSWERS = [  # of Random123 (Salmon et al. 2011): counter, key, words
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def numbers(text):
    return [int(word, 16) for word in text.split()]


@triton.jit
def philox_alone(given, out):
    zero = tl.zeros((1,), tl.int64)
    at = tl.arange(0, 1)
    c0, c1 = (zero + tl.load(given + 0)).to(tl.uint32), (zero + tl.load(given + 1)).to(tl.uint32)
    c2, c3 = (zero + tl.load(given + 2)).to(tl.uint32), (zero + tl.load(given + 3)).to(tl.uint32)
    k0, k1 = (zero + tl.load(given + 4)).to(tl.uint32), (zero + tl.load(given + 5)).to(tl.uint32)
    w0, w1, w2, w3 = philox(c0, c1, c2, c3, k0, k1, 10)  # pyright: ignore[reportArgumentType]
    tl.store(out + at, w0.to(tl.int64))
    tl.store(out + 1 + at, w1.to(tl.int64))
    tl.store(out + 2 + at, w2.to(tl.int64))
    tl.store(out + 3 + at, w3.to(tl.int64))


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_philox_gives_the_published_words(counter, key, words):
    c0, c1, c2, c3 = (torch.tensor([word]) for word in numbers(counter))
    k0, k1 = numbers(key)
    assert torch.cat(reference.philox((c0, c1, c2, c3), (k0, k1))).tolist() == numbers(words)
    out = torch.zeros(4, dtype=torch.int64, device=DEVICE)
    philox_alone[(1,)](torch.tensor(numbers(counter) + numbers(key), device=DEVICE), out)
    assert out.tolist() == numbers(words)


@pytest.mark.parametrize("kernels", [reference, twins], ids=["reference", "triton"])
def test_seed_draw_and_id_are_the_key_and_the_counter(kernels):
    ids = torch.tensor([0], device=DEVICE)
    assert kernels.random_words(0, ids, 0, 4)[0].tolist() == numbers(KNOWN_ANSWERS[0][2])
    _, draw, id_low, id_high = numbers(KNOWN_ANSWERS[2][0])
    seed_low, seed_high = numbers(KNOWN_ANSWERS[2][1])
    words = kernels.random_words(seed_low + (seed_high << 32), ids + id_low + (id_high << 32), draw, 11)[0].tolist()
    for block in range(3):
        counter = [torch.tensor([word]) for word in (block, draw, id_low, id_high)]
        wanted = torch.cat(reference.philox(tuple(counter), (seed_low, seed_high))).tolist()
        assert words[4 * block : 4 * block + 4] == wanted[: 11 - 4 * block]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 63, 1025])
@pytest.mark.parametrize(("seed", "draw"), [(0, 0), (1, 16), (2**64 - 1, 2**32 - 1)])
def test_noise_is_the_same_bits_in_triton(poisoned, count, seed, draw):
    ids = torch.tensor([7, 2**40 + 3], device=DEVICE)
    assert torch.equal(twins.random_words(seed, ids, draw, count), reference.random_words(seed, ids, draw, count))
    for dtype in DTYPES:
        wanted = reference.uniform(seed, ids, draw, count, dtype)
        got = twins.uniform(seed, ids, draw, count, dtype)
        assert got.dtype == dtype
        assert torch.equal(got, wanted)
    assert_near(
        twins.normal(seed, ids, draw, count, torch.float32), reference.normal(seed, ids, draw, count, torch.float32)
    )


@pytest.mark.parametrize("kernels", [reference, twins], ids=["reference", "triton"])
def test_a_rows_noise_does_not_depend_on_the_rows_beside_it(kernels):
    ids = torch.tensor([3, 1, 4, 159], device=DEVICE)
    for dtype in DTYPES:
        for noise in (kernels.uniform, kernels.normal):
            together = noise(5, ids, 2, 63, dtype)
            assert torch.equal(together[2:3], noise(5, ids[2:3], 2, 63, dtype))
            assert torch.equal(together.flip(0), noise(5, ids.flip(0), 2, 63, dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_uniform_noise_is_uniform(dtype):
    values = reference.uniform(11, torch.arange(200), 3, 1000, dtype).double().flatten().numpy()
    assert values.min() >= 0
    assert values.max() < 1
    assert abs(values.mean() - 1 / 2) < 4 * (1 / 12 / values.size) ** 0.5
    assert abs(values.var() - 1 / 12) < 4 * (1 / 180 / values.size) ** 0.5
    assert stats.kstest(values, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_normal_noise_is_normal(dtype):
    values = reference.normal(12, torch.arange(200), 3, 1000, dtype).double().flatten().numpy()
    assert np.abs(values).max() < 6.4
    assert stats.kstest(values, "norm").pvalue > 1e-3


def test_noise_of_other_ids_draws_seeds_and_places_is_other_noise():
    ids = torch.arange(5)
    streams = [reference.random_words(seed, ids, draw, 8) for seed in (0, 1, 2**32) for draw in (0, 1)]
    words = torch.stack(streams).flatten()
    assert len(words.unique()) == len(words)


def test_uniform_noise_is_never_one_even_where_its_word_is_the_largest(monkeypatch):
    monkeypatch.setattr(reference, "random_words", lambda seed, ids, draw, count: torch.full((1, count), 2**32 - 1))
    for dtype in DTYPES:
        assert reference.uniform(0, torch.tensor([0]), 0, 3, dtype).max() < 1
    assert reference.normal(0, torch.tensor([0]), 0, 3, torch.float32).isfinite().all()
