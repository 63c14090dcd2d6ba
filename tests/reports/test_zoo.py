"""Whether the classifiers that come with the package are what they are said to be."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from typer import Typer
from typer.testing import CliRunner

import attacks
from reports import zoo
from reports.zoo import network, train


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    return zoo.load()


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((model(x).argmax(1) == y).double().mean())


def robust_accuracy(model: nn.Module, attack: str | attacks.Attack, threat: str, rows: int = 150) -> float:
    x, y = (part[:rows] for part in zoo.held_out())
    return float((~attacks.run(attack, model, x, y, threat).fooled).double().mean())


def test_both_weights_together_are_under_a_megabyte():
    assert sum((network.FOLDER / f"{name}.safetensors").stat().st_size for name in network.NAMES) < 1_000_000


def test_models_come_by_name_in_eval_mode_and_give_ten_logits(models):
    assert list(models) == ["digits_standard", "digits_robust"]
    for model in models.values():
        assert not any(module.training for module in model.modules())
        assert model(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


def test_loading_twice_gives_models_that_share_nothing(models):
    with torch.no_grad():
        next(zoo.load()["digits_robust"].parameters()).zero_()
    assert next(models["digits_robust"].parameters()).abs().sum() > 0
    assert next(zoo.load()["digits_robust"].parameters()).abs().sum() > 0


@pytest.mark.parametrize("part", [zoo.held_out, zoo.training])
def test_digits_lie_on_the_eight_bit_grid(part):
    x, y = part()
    levels = (x.double() * 255).round()
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    assert torch.equal((levels / 255).float(), x)
    assert torch.equal(x * 255, levels.float())
    assert levels.min() == 0
    assert levels.max() == 255
    assert len(levels.unique()) == 17


def test_the_split_leaves_nothing_out_and_shares_nothing():
    from sklearn.datasets import load_digits

    rows = [[tuple(image.flatten().tolist()) for image in part()[0]] for part in (zoo.held_out, zoo.training)]
    ink, _ = load_digits(return_X_y=True)
    whole = [tuple((torch.tensor(image).mul(255 / 16).round() / 255).float().tolist()) for image in ink]
    assert [len(part) for part in rows] == [599, 1198]
    assert sorted(rows[0] + rows[1]) == sorted(whole)
    assert not set(rows[0]) & set(rows[1])


def test_every_class_gives_a_third_of_its_own_to_the_held_out_part():
    held, kept = zoo.held_out()[1].bincount(), zoo.training()[1].bincount()
    assert len(held) == len(kept) == 10
    assert ((held - (held + kept) / 3).abs() < 1).all()


def test_the_split_is_the_same_each_time():
    for first, second in zip(zoo.held_out() + zoo.training(), zoo.held_out() + zoo.training(), strict=True):
        assert torch.equal(first, second)


def test_the_standard_one_is_right_on_98_percent_and_the_robust_one_on_96(models):
    x, y = zoo.held_out()
    assert accuracy(models["digits_standard"], x, y) >= 0.98
    assert accuracy(models["digits_robust"], x, y) >= 0.96


@pytest.mark.parametrize("threat", ["linf:0.1", "linf:0.2", "l2:0.5", "l2:1.0"])
def test_the_robust_one_withstands_pgd_where_the_standard_one_does_not(models, threat):
    standard, robust = (robust_accuracy(models[name], "pgd", threat) for name in network.NAMES)
    assert robust > standard + 0.15


def test_the_robust_one_withstands_noise_better(models):
    x, y = (part.repeat_interleave(5, 0) for part in zoo.held_out())
    noisy = (x + 0.35 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    standard, robust = (accuracy(models[name], noisy, y) for name in network.NAMES)
    assert robust > standard + 0.02


def test_a_larger_eps_breaks_more(models):
    left = [robust_accuracy(models["digits_robust"], "pgd", f"linf:{eps}") for eps in (0.05, 0.1, 0.2, 0.3)]
    assert all(more > less for more, less in pairwise(left))


def test_training_writes_the_same_weights_for_the_same_seed(tmp_path: Path):
    app = Typer()
    app.command()(train.main)
    threads = torch.get_num_threads()
    try:
        for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
            command = ["--epochs", "1", "--examples", "160", "--seed", seed, "--out", str(tmp_path / out)]
            assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    finally:
        torch.set_num_threads(threads)
    for name in network.NAMES:
        a, b, c = ((tmp_path / out / f"{name}.safetensors").read_bytes() for out in "abc")
        assert a == b != c
        network.network().load_state_dict(load_file(tmp_path / "a" / f"{name}.safetensors"))
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        f"{name}.safetensors" for name in sorted(network.NAMES)
    ]


def test_what_is_not_fooled_is_trained_on_where_pgd_left_it(models):
    x, y = (part[:40] for part in zoo.held_out())
    threat = attacks.ThreatModel.parse("l2:0.5")
    ids = torch.arange(40)
    result = attacks.run("pgd", models["digits_robust"], x, y, threat, ids=ids)
    x_adv = train.worst(attacks.pgd(), models["digits_robust"], x, y, threat, seed=0, ids=ids)
    far = (x_adv - x).double().flatten(1).norm(dim=1)
    assert (~result.fooled).any()
    assert (far[~result.fooled] > 0.25).all()
    assert (far <= 0.5 + 1e-6).all()
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
