"""What is found wrong with a model or its data before any attack, and that nothing is found where nothing is wrong."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_manners import assert_same, state, training_net
from torch import Tensor, nn

from attacks import InputError
from attacks.checks.answers import tail
from attacks.checks.look import ALONE, MOST, ROWS, Look
from attacks.models import BPDA, FromCallable, Normalized
from attacks.preflight import CHECKS, Finding, examine
from reports import zoo
from reports.sources import data as sources

SHARED = Path(__file__).parents[3] / "shared" / "data"
OUTSIDE = {
    "mnist_test.npz": ["advertorch_cln", "advertorch_adv", "ddn_mnist", "kw_mnist_01"],
    "cifar10_jpeg_test.parquet": ["resnet2b", "resnet20", "resnet32"],
}
X, Y = zoo.held_out()


class Around(nn.Module):
    """The digits classifier, with something before it and something after."""

    def __init__(self, before: Callable = lambda x: x, after: Callable = lambda z: z, **modules: nn.Module):
        super().__init__()
        self.net, self.before, self.after = zoo.load()["digits_standard"], before, after
        for name, module in modules.items():
            self.add_module(name, module)
        self.eval()

    def forward(self, x: Tensor) -> Any:
        return self.after(self.net(self.before(x)))


class Straight(torch.autograd.Function):
    """`change`, with the gradient of the identity times `times`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, change: Callable, times: Callable) -> Tensor:
        ctx.times = times
        return change(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple:
        return ctx.times(grads[0]), None, None


def straight(change: Callable, times: Callable = lambda g: g) -> Callable[[Tensor], Tensor]:
    return lambda x: Straight.apply(x, change, times)  # type: ignore[return-value]


class Counting(nn.Module):
    """A buffer that counts the passes, which the answers depend on, or not."""

    passes: Tensor

    def __init__(self, effect: float):
        super().__init__()
        self.net, self.effect = zoo.load()["digits_standard"], effect
        self.register_buffer("passes", torch.zeros(()))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return self.net(x) * (1 + self.effect * self.passes)


class Overwriting(Around):
    """Its input less the mean, in place, and put back for the pass itself."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x.clone())
        x -= 0.1
        return logits


class Overwriting2(Around):
    """The same through numpy, which no version counter sees."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x.clone())
        x.detach().numpy()[...] = 0
        return logits


def norm(**options: Any) -> nn.BatchNorm1d:
    layer = nn.BatchNorm1d(10, affine=False, **options)
    if layer.running_mean is not None:
        layer.running_mean += 2.0
    return layer


def batch_norm(train: bool = False, **options: Any) -> Around:
    layer = norm(**options)
    model = Around(after=lambda z: layer(z), norm=layer)
    layer.train(train)
    return model


def dropped_out() -> Around:
    layer = nn.Dropout(0.5)
    return Around(lambda x: layer(x), drop=layer).train()


def jagged(x: Tensor) -> Tensor:
    return x + 0.05 * torch.sin(5000 * x)


def winners(k: int) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.where(x >= x.flatten(1).topk(k, 1).values[:, -1:, None, None], x, 0.0)


def root(x: Tensor) -> Tensor:
    return (x * x).sqrt()


def masked_out(z: Tensor) -> Tensor:
    return torch.cat((z, torch.full_like(z[:, :1], -1e9)), 1)


def one_at_a_time(z: Tensor) -> Tensor:
    return z.squeeze()


def by_numpy(x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return zoo.load()["digits_standard"](torch.from_numpy(x)).numpy()


def picky(x: Tensor) -> Tensor:
    if bool(((x * 255 - (x * 255).round()).abs() > 1e-2).any()):
        raise ValueError("8-bit images alone")
    return x


def refusing(z: Tensor) -> Tensor:
    raise RuntimeError("shapes cannot be multiplied\nand more")


MODELS: dict[str, tuple[Callable[[], nn.Module], dict[str, str]]] = {
    # how the model gives its answers
    "raises": (lambda: Around(after=refusing), {"raises": "fatal"}),
    "raises off the grid": (lambda: Around(picky), {"raises_nearby": "fatal"}),
    "tuple": (lambda: Around(after=lambda z: (z, z)), {"no_tensor": "fatal"}),
    "one logit": (lambda: Around(after=lambda z: z[:, :1]), {"one_logit": "fatal"}),
    "no axis": (lambda: Around(after=lambda z: z[:, 0]), {"one_logit": "fatal"}),
    "three axes": (lambda: Around(after=lambda z: z[:, :, None]), {"output_shape": "fatal"}),
    "whole numbers": (lambda: Around(after=lambda z: z.long()), {"output_shape": "fatal"}),
    "NaN": (lambda: Around(after=lambda z: z.masked_fill(z == z.max(), torch.nan)), {"nonfinite_logits": "fatal"}),
    "softmax": (lambda: Around(after=lambda z: z.softmax(1)), {"probabilities": "fatal"}),
    "log softmax": (lambda: Around(after=lambda z: z.log_softmax(1)), {"log_probabilities": "note"}),
    "constant": (lambda: Around(after=lambda z: z * 0 + torch.arange(10.0)), {"constant_logits": "fatal"}),
    "bfloat16": (lambda: Around().bfloat16(), {"reduced_precision": "warning"}),
    "bfloat16 inside": (lambda: Around(after=lambda z: z.bfloat16().float()), {"reduced_precision": "warning"}),
    "float16 inside": (lambda: Around(after=lambda z: z.half().float()), {"reduced_precision": "warning"}),
    "float64": (lambda: Around().double(), {}),
    "saturated": (lambda: Around(after=lambda z: z * 1e4), {"saturated": "warning"}),
    "tiny": (lambda: Around(after=lambda z: z * 1e-4), {"tiny_logits": "warning"}),
    "a thousand classes": (
        lambda: Around(after=lambda z: torch.cat((z, z[:, :1].expand(-1, 990) - 99), 1)),
        {"more_classes": "note"},
    ),
    "too few classes": (lambda: Around(after=lambda z: z[:, :9]), {"labels_beyond": "fatal"}),
    # how it behaves
    "dropout at work": (dropped_out, {"train_mode": "warning"}),
    "BatchNorm at work": (lambda: batch_norm(train=True), {"train_mode": "warning"}),
    "batch statistics": (lambda: batch_norm(track_running_stats=False), {"batch_statistics": "fatal"}),
    "in place": (Overwriting, {"changes_input": "fatal"}),
    "in place by numpy": (Overwriting2, {"changes_input": "fatal"}),
    "state": (lambda: Counting(0.1), {"keeps_state": "fatal"}),
    "a counter": (lambda: Counting(0.0), {"keeps_state": "note"}),
    "random": (lambda: Around(after=lambda z: z + torch.randn_like(z)), {"random": "fatal"}),
    "random, a class masked out": (
        lambda: Around(after=lambda z: masked_out(z + torch.randn_like(z))),
        {"random": "fatal"},
    ),
    "less the batch's mean": (lambda: Around(after=lambda z: z - z.mean(0)), {"rows_interact": "fatal"}),
    "by place": (
        lambda: Around(after=lambda z: z + 0.01 * torch.arange(float(len(z)))[:, None] * z),
        {"rows_interact": "fatal"},
    ),
    "a little of the batch": (lambda: Around(after=lambda z: z + 1e-3 * z.mean(0)), {"inexact": "note"}),
    "no row alone": (lambda: Around(after=one_at_a_time), {"not_alone": "fatal"}),
    # how often it is right
    "one class": (
        lambda: Around(after=lambda z: torch.where(torch.eye(10)[3] > 0, 1 + 1.1 * z.amax(1, True), z)),
        {"one_class": "warning"},
    ),
    "other labels": (lambda: Around(after=lambda z: z[:, [3, 7, 1, 0, 8, 9, 2, 4, 6, 5]]), {"near_chance": "warning"}),
    "labels from 1": (lambda: Around(after=lambda z: z.roll(-1, 1)), {"labels_shifted": "warning"}),
    "labels from -1": (lambda: Around(after=lambda z: z.roll(1, 1)), {"labels_shifted": "warning"}),
    "no normalisation": (lambda: Around(lambda x: torch.sigmoid(50 * x + 10)), {"normalisation": "warning"}),
    "made for 0 to 255": (lambda: Around(lambda x: x / 255), {"normalisation": "warning"}),
    "never a 4": (lambda: Around(after=lambda z: z - 99 * torch.eye(10)[4]), {"never_predicted": "note"}),
    # its gradients
    "numpy": (lambda: FromCallable(by_numpy), {"no_gradient": "warning"}),
    "detached": (lambda: Around(lambda x: x.detach()), {"no_gradient": "warning"}),
    "rounded": (lambda: Around(lambda x: (x * 16).round() / 16), {"zero_gradient": "warning"}),
    "some zero": (
        lambda: Around(lambda x: torch.where(x.sum((1, 2, 3), True) > 21, x.detach(), x)),
        {"zero_gradient": "warning"},
    ),
    "root": (lambda: Around(root), {"nonfinite_gradient": "warning"}),
    "jagged": (lambda: Around(jagged), {"shattered_gradient": "warning"}),
    "straight through": (lambda: Around(straight(lambda x: (x * 16).round() / 16)), {"wrong_gradient": "warning"}),
    "8-bit straight through": (
        lambda: Around(straight(lambda x: (x * 255).round() / 255)),
        {"wrong_gradient": "warning"},
    ),
    "BPDA": (lambda: nn.Sequential(BPDA(lambda x: (x * 8).round() / 8), Around()), {"wrong_gradient": "warning"}),
    "signs": (lambda: Around(straight(lambda x: x, torch.sign)), {"wrong_gradient": "warning"}),
    "the wrong way": (lambda: Around(straight(lambda x: x, torch.neg)), {"wrong_gradient": "warning"}),
    "a random way": (
        lambda: Around(
            straight(lambda x: x, lambda g: torch.randn(g.shape, generator=torch.Generator().manual_seed(0)))
        ),
        {"wrong_gradient": "warning"},
    ),
}


def told(found: list[Finding]) -> dict[str, str]:
    return {finding.code: finding.severity for finding in found}


@pytest.mark.parametrize("name", MODELS)
def test_each_fault_of_a_model_is_found_and_no_other(name: str):
    make, expected = MODELS[name]
    assert told(examine(make(), X, Y)) == expected


def sharp(seed: int = 0) -> Tensor:
    return (torch.rand(64, 6, generator=torch.Generator().manual_seed(seed)) * 255).round() / 255


DATA: dict[str, tuple[Callable[[], tuple[Tensor, Any]], dict[str, str]]] = {
    "8 bits": (lambda: ((X * 255).to(torch.uint8), Y), {"input_type": "fatal"}),
    "half": (lambda: (X.half(), Y), {"input_type": "fatal"}),
    "NaN": (
        lambda: (X.where(torch.arange(599)[:, None, None, None] != 7, torch.nan), Y),
        {"nonfinite_inputs": "fatal"},
    ),
    "all NaN": (lambda: (X * torch.nan, Y), {"nonfinite_inputs": "fatal"}),
    "0 to 255": (lambda: (X * 255, Y), {"outside_bounds": "fatal"}),
    "normalised": (lambda: (X * 2 - 1, Y), {"outside_bounds": "fatal"}),
    "divided twice": (lambda: (X / 255, Y), {"unused_range": "warning", "off_grid": "note"}),
    "one grey": (lambda: (torch.cat((X, 0 * X[:1])), torch.cat((Y, Y[:1]))), {"constant_inputs": "note"}),
    "copies": (lambda: (torch.cat((X[:60], X[:4])), torch.cat((Y[:60], Y[:4]))), {"duplicates": "note"}),
    "copies at odds": (lambda: (torch.cat((X[:60], X[:1])), torch.cat((Y[:60], Y[:1] - 1))), {"duplicates": "warning"}),
    "off the grid": (lambda: (X * 0.99, Y), {"off_grid": "note"}),
    "float labels": (lambda: (X, Y.float()), {"label_type": "fatal"}),
    "one-hot labels": (lambda: (X, nn.functional.one_hot(Y)), {"label_type": "fatal"}),
    "negative labels": (lambda: (X, Y.where(Y > 0, -1)), {"labels_beyond": "fatal"}),
}


@pytest.mark.parametrize("name", DATA)
def test_each_fault_of_the_data_is_found_and_no_other(name: str):
    make, expected = DATA[name]
    found = told(examine(zoo.load()["digits_standard"], *make()))
    harmless = {"normalisation", "saturated"} if name in ("0 to 255", "normalised", "divided twice") else set()
    assert {code: severity for code, severity in found.items() if code not in harmless} == expected


def test_every_check_has_a_fault_that_it_finds():
    """The codes in the text of the checks are those that are expected above."""
    files = (Path(__file__).parents[2] / "attacks" / "checks").glob("*.py")
    import re

    written = {code for file in files for code in re.findall(r'Finding\(\s*"(\w+)"', file.read_text())}
    expected = {code for _, codes in (*MODELS.values(), *DATA.values()) for code in codes}
    assert written == expected
    assert len(written) > 30


# -- where nothing is wrong --


def plain_cnn(dtype: torch.dtype = torch.float32) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 5),
        ).to(dtype).eval()  # fmt: skip


def plain_mlp() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(6, 32), nn.GELU(), nn.LayerNorm(32), nn.Linear(32, 3))


def images(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randint(0, 256, (40, 3, 14, 14), generator=torch.Generator().manual_seed(0)).to(dtype) / 255


@pytest.mark.parametrize("name", ["digits_standard", "digits_robust"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_found_wrong_with_the_digits(name: str, dtype: torch.dtype):
    assert examine(zoo.load()[name].to(dtype), X.to(dtype), Y) == []
    assert examine(zoo.load()[name].to(dtype), X.to(dtype)) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_found_wrong_with_an_ordinary_network(dtype: torch.dtype):
    model, x = plain_cnn(dtype), images(dtype)
    assert examine(model, x, model(x).argmax(1)) == []


@pytest.mark.parametrize("rows", [1, 2, 64])
def test_nothing_is_found_wrong_with_a_table_of_features(rows: int):
    x, model = sharp()[:rows], plain_mlp()
    assert examine(model, x, model(x).argmax(1)) == []
    wide = torch.tensor([10.0, 1, 1, 1, 1, 200])
    model = Normalized(model, [0.0], [1.0]) if rows > 1 else model
    scaled = nn.Sequential(Scaled(wide), model)
    assert examine(scaled, x * wide - 5, model(x).argmax(1), bounds=(torch.tensor(-5.0), wide - 5)) == []


class Scaled(nn.Module):
    def __init__(self, wide: Tensor):
        super().__init__()
        self.wide = wide

    def forward(self, x: Tensor) -> Tensor:
        return (x + 5) / self.wide


@pytest.mark.skipif(not SHARED.is_dir(), reason="peer: the folder of outside models and data is not here")
@pytest.mark.parametrize("file", OUTSIDE)
def test_nothing_is_found_wrong_with_the_outside_models(file: str):
    spec = importlib.util.spec_from_file_location("outside_models", SHARED / "models.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    batch = next(sources.load(str(SHARED / file)).batches(24, 24))
    for name in OUTSIDE[file]:
        assert [f for f in examine(getattr(module, name)(), batch.x, batch.labels) if f.severity != "note"] == [], name


# -- what changes nothing --


@pytest.mark.parametrize(
    "name", ["straight through", "rounded", "jagged", "signs", "less the batch's mean", "no normalisation"]
)
@pytest.mark.parametrize("change", [(1e-4, 0.0), (1e4, 0.0), (1.0, 100.0)], ids=str)
def test_scale_and_shift_of_the_logits_change_nothing_but_what_is_said_of_the_scale(
    name: str, change: tuple[float, float]
):
    make, expected = MODELS[name]
    model = make()
    assert isinstance(model, Around)
    plain, (times, plus) = model.after, change
    model.after = lambda z: plain(z) * times + plus
    assert {c: s for c, s in told(examine(model, X, Y)).items() if c not in ("saturated", "tiny_logits")} == expected


@pytest.mark.parametrize("times", [1e-4, 1e4])
@pytest.mark.parametrize("name", ["digits_standard", "digits_robust"])
def test_gradients_are_believed_at_any_scale_of_the_logits(name: str, times: float):
    model = nn.Sequential(zoo.load()[name], Times(times)).eval()
    assert list(told(examine(model, X, Y))) == ["tiny_logits" if times < 1 else "saturated"]


class Times(nn.Module):
    def __init__(self, times: float):
        super().__init__()
        self.times = times

    def forward(self, z: Tensor) -> Tensor:
        return z * self.times


@pytest.mark.parametrize(
    "name", ["softmax", "random", "some zero", "straight through", "labels from 1", "no row alone"]
)
def test_the_order_of_the_rows_changes_nothing(name: str):
    make, expected = MODELS[name]
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    assert told(examine(make(), X[:64][order], Y[:64][order])) == expected


def test_the_seed_changes_nothing_that_matters():
    for seed in range(5):
        assert examine(zoo.load()["digits_robust"], X, Y, seed=seed) == []
        assert told(examine(MODELS["straight through"][0](), X, Y, seed=seed)) == {"wrong_gradient": "warning"}


def test_the_same_examination_says_the_same_words():
    assert examine(MODELS["random"][0](), X, Y) == examine(MODELS["random"][0](), X, Y)


# -- manners --


def test_the_model_and_the_callers_state_are_left_as_they_were():
    net = training_net()
    x = torch.rand(8, 3, 8, 8)
    before, luck, given = state(net), torch.get_rng_state(), x.clone()
    found = examine(net, x, torch.arange(8) % 5)
    assert told(found)["train_mode"] == "warning"
    assert_same(before, state(net))
    assert torch.equal(torch.get_rng_state(), luck)
    assert torch.equal(x, given)
    assert x.grad is None


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad])
def test_it_may_be_called_where_no_gradients_are_taken(context: Callable):
    model, stepped = zoo.load()["digits_robust"], MODELS["straight through"][0]()
    with context():
        assert examine(model, X * 1, Y * 1) == []
        assert told(examine(stepped, X, Y)) == {"wrong_gradient": "warning"}


def test_bounds_may_be_given_per_feature_of_images():
    bounds = (torch.zeros(1, 8, 8), torch.tensor(1.0))
    assert examine(zoo.load()["digits_robust"], X, Y, bounds=bounds) == []
    assert examine(zoo.load()["digits_robust"], X.clone().requires_grad_(), Y, bounds=(-torch.inf, torch.inf)) == []
    short = (torch.zeros(1, 8, 8), torch.full((1, 1, 8), 0.9))
    assert "outside_bounds" in told(examine(zoo.load()["digits_robust"], X, Y, bounds=short))


@pytest.mark.parametrize("name", ["dropout at work", "other labels", "no normalisation", "straight through"])
def test_it_costs_no_more_passes_than_it_says(name: str):
    rows = []
    model = MODELS[name][0]()
    model.register_forward_hook(lambda _, given, __: rows.append(len(given[0])))
    examine(model, X, Y)
    assert sum(rows) <= 12 * ROWS
    assert rows.count(1) <= ALONE
    assert max(rows) == ROWS
    rows.clear()
    examine(model, X[:8], Y[:8])
    assert sum(rows) <= MOST * 8


def test_examples_are_taken_from_all_of_the_data():
    look = Look(zoo.load()["digits_standard"], X[Y.argsort()], Y.sort().values, (0.0, 1.0), 0)
    assert look.labels is not None
    assert len(look.x) == ROWS
    assert torch.bincount(look.labels).min() >= 5


def test_a_fault_comes_with_its_counts_and_its_remedy():
    (found,) = examine(MODELS["labels from 1"][0](), X, Y)
    assert "right for 0 of 64, and for 55 once 1 is taken from each" in found.text
    assert found.remedy == "Number the labels as the model does."
    for make, _ in MODELS.values():
        for finding in examine(make(), X, Y):
            assert finding.text.endswith(".")
            assert finding.remedy.endswith(".")
            assert finding.text[0].isupper()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("BatchNorm at work", "The model is in train mode in 1 of 11 modules (norm), and answers otherwise in it"),
        ("dropout at work", "The model is in train mode, and answers otherwise in it"),
        ("batch statistics", "BatchNorm without running statistics (norm)"),
        ("state", "changes the model's buffers (passes), and with them its answers."),
        ("some zero", "The gradient is exactly zero for"),
        ("raises", "The model cannot take inputs [b, 1, 8, 8]: shapes cannot be multiplied."),
        ("made for 0 to 255", "once they run to 255."),
        ("no normalisation", "once they are standardised"),
        ("detached", "No gradient reaches the input"),
        ("labels from -1", "Labels seem one too low"),
    ],
)
def test_a_finding_says_what_it_saw(name: str, said: str):
    found = examine(MODELS[name][0](), X, Y)
    assert said in " ".join(f"{finding.text} {finding.remedy}" for finding in found)


def test_inputs_of_more_digits_than_the_model_has_are_not_rounded():
    (found,) = examine(Around(), X.double(), Y)
    assert (
        found.remedy == "The model is float32 and the inputs are float64: convert it, model.to(torch.float64), or them."
    )


def test_the_worst_comes_first():
    found = examine(Around(after=lambda z: z + 1e-1 * z.mean(0)), X * 0.99, Y)
    assert [finding.severity for finding in found] == ["fatal", "note"]


def test_chance_is_binomial():
    assert tail(0, 10, 0.3) == pytest.approx(1)
    assert tail(10, 10, 0.5) == pytest.approx(2**-10)
    assert tail(2, 3, 0.5) == pytest.approx(0.5)


def test_checks_have_names_to_be_listed_by():
    assert len(CHECKS) > 15
    assert all(name and callable(check) for name, check in CHECKS.items())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((lambda x: x, X), "a torch.nn.Module is needed"),
        ((nn.Identity(), X.numpy()), "Inputs are ndarray"),
        ((nn.Identity(), X[:0]), "at least one example"),
        ((nn.Identity(), X.flatten()), "at least one example"),
    ],
)
def test_what_is_no_model_or_no_batch_is_refused(arguments: tuple, said: str):
    with pytest.raises(InputError, match=said):
        examine(*arguments)


def test_bounds_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"one per feature \(1, 8, 8\)"):
        examine(nn.Identity(), X, bounds=(torch.zeros(7), 1.0))
