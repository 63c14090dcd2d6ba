"""Does a run resume bit for bit, stop cleanly, say what went wrong, and refuse what it cannot learn from?"""

import errno
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from players import Critic, Generator, build, build_restless
from torch import nn

from advgan import checkpoint
from advgan.checkpoint import FILE, unpack
from advgan.fit import Recipe, Run, Samples, fit
from advgan.health import DivergedError, new_warnings
from advgan.samples import Draws, Order
from advgan.schedules import Schedule
from attacks import InputError

RECIPE = Recipe(
    latent=3, steps=12, batch=8, conditional=True, critic_steps=2, lr=Schedule(1e-2, 1e-3), penalty="gradient", seed=4
)
PLAIN = replace(RECIPE, conditional=False)


def samples(n: int = 50, shape: tuple[int, ...] = (1, 4, 4)) -> Samples:
    seeded = torch.Generator().manual_seed(0)
    x = torch.rand(n, *shape, generator=seeded) * 2 - 1
    return Samples(x, torch.randint(0, 3, (n,), generator=seeded), 3, "noise")


def measure(run, critic):
    torch.rand(7)  # what is measured must not disturb what is trained
    return {
        "mean": float(run.sample(5).mean()),
        "scores": float(critic(torch.zeros(3, *run.shape), torch.arange(3)).detach().mean()),
    }


def trained(out: Path, recipe: Recipe = RECIPE, data: Samples | None = None, **options) -> Run:
    return fit(recipe, data or samples(), out, **{"build": build_restless, "every": 5, "measure": measure} | options)


def content(folder: Path) -> tuple[bytes, dict]:
    """The generator's bytes, and run.json but for its times."""
    about = json.loads((folder / "run.json").read_text())
    about.pop("seconds")
    return (folder / "generator.safetensors").read_bytes(), about


def stop_at(step: int, by=lambda: os.kill(os.getpid(), signal.SIGINT)):
    def progress(done, row):
        if done == step:
            by()

    return progress


def interrupt():
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "whole"
    trained(folder)
    return folder


@pytest.mark.parametrize("step", [1, 5, 7, 12])
def test_a_run_that_was_interrupted_and_resumed_is_the_uninterrupted_one(whole, tmp_path, step):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        trained(out, progress=stop_at(step))
    assert json.loads((out / "run.json").read_text())["step"] == step
    trained(out, resume=True)
    assert content(out) == content(whole)


def test_a_run_may_be_resumed_twice_and_by_one_who_cannot_signal(whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", progress=stop_at(3, interrupt))
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", progress=stop_at(9, interrupt), resume=True)
    trained(tmp_path / "run", resume=True)
    assert content(tmp_path / "run") == content(whole)


def test_a_run_that_was_killed_goes_on_from_its_last_mark(whole, tmp_path):
    class Killed(BaseException):
        pass

    def kill():
        raise Killed

    with pytest.raises(Killed):
        trained(tmp_path / "run", progress=stop_at(8, kill))
    assert unpack(tmp_path / "run" / "checkpoint" / FILE)[1]["progress"]["step"] == 5
    trained(tmp_path / "run", resume=True)
    assert content(tmp_path / "run") == content(whole)


def test_neither_measuring_nor_looking_changes_the_run(whole, tmp_path):
    quiet = trained(tmp_path / "run", measure=None, every=12)
    other = Run.load(whole, build_restless).generator.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in quiet.generator.state_dict().items())


def test_the_callers_random_state_and_handler_are_as_before(tmp_path):
    state, handler = torch.get_rng_state(), signal.getsignal(signal.SIGINT)
    trained(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), state)
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_finished_run_resumed_is_left_as_it_is(whole):
    before = content(whole)
    assert trained(whole, resume=True).step == 12
    assert content(whole) == before


def test_the_folder_holds_what_is_promised(whole):
    about = json.loads((whole / "run.json").read_text())
    assert about["format"] == 1
    assert Recipe.of(about["config"]) == RECIPE
    assert about["config"]["data"]["count"] == 50
    assert [row["step"] for row in about["history"]] == list(range(13))
    assert [row["step"] for row in about["history"] if "mean" in row] == [0, 5, 10, 12]
    assert about["measures"] == {name: about["history"][-1][name] for name in ("mean", "scores")}
    assert sorted(path.name for path in (whole / "samples").iterdir()) == [f"step-{k}.npz" for k in (0, 10, 12, 5)]
    with np.load(whole / "samples" / "step-12.npz") as shown:
        assert shown["x"].shape == (50, 1, 4, 4)
        assert 0 <= shown["x"].min() <= shown["x"].max() <= 1
        assert shown["labels"][:6].tolist() == [0, 1, 2, 0, 1, 2]


def test_a_loaded_run_samples_by_seed_place_and_label_alone(whole):
    run = Run.load(whole, build_restless)
    many, few = run.sample(300, seed=1), run.sample(4, seed=1)
    torch.testing.assert_close(many[:4], few, rtol=0, atol=1e-6)
    assert many.shape == (300, 1, 4, 4)
    assert 0 <= many.min() <= many.max() <= 1
    assert not torch.allclose(run.sample(4, seed=2), few)
    torch.testing.assert_close(run.sample(4, torch.tensor([0, 1, 2, 0]), seed=1), few)
    assert run.sample(0).shape == (0, 1, 4, 4)


@pytest.mark.parametrize("labels", [torch.tensor([0, 3]), torch.tensor([0]), torch.tensor([0.0, 1.0])])
def test_labels_that_do_not_fit_are_refused_when_sampling(whole, labels):
    with pytest.raises(InputError):
        Run.load(whole, build_restless).sample(2, labels)


def test_vectors_are_sampled_as_they_are(tmp_path):
    data = Samples(samples(shape=(2,)).x * 100)
    run = trained(tmp_path / "run", replace(PLAIN, steps=1), data, measure=None)
    with torch.no_grad():
        list(run.generator.parameters())[-1].fill_(7.0)  # the last layer's bias
    assert run.sample(3).mean() > 1
    with pytest.raises(InputError, match="takes no labels"):
        run.sample(3, torch.zeros(3, dtype=torch.int64))


def test_a_changed_recipe_or_other_data_are_refused_by_key(whole):
    with pytest.raises(InputError, match=r"lr\.start: 0\.01 there, 0\.02 asked"):
        trained(whole, replace(RECIPE, lr=Schedule(2e-2, 1e-3)), resume=True)
    with pytest.raises(InputError, match=r"data\.digest"):
        trained(whole, data=replace(samples(), x=-samples().x), resume=True)


def test_a_run_is_not_written_over_another_nor_over_other_files(whole, tmp_path):
    with pytest.raises(InputError, match="holds a run"):
        trained(whole)
    (tmp_path / "file").touch()
    for out in (tmp_path, tmp_path / "file"):
        with pytest.raises(InputError, match="not an empty folder"):
            trained(out)
    with pytest.raises(InputError, match="no file"):
        trained(tmp_path / "nothing", resume=True)


def test_a_full_disk_ends_the_run_and_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    out, fsync = tmp_path / "run", os.fsync

    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    fill = stop_at(6, lambda: monkeypatch.setattr(checkpoint.os, "fsync", full))
    with pytest.raises(OSError, match="No space"):
        trained(out, progress=fill)
    monkeypatch.setattr(checkpoint.os, "fsync", fsync)
    assert unpack(out / "checkpoint" / FILE)[1]["progress"]["step"] == 5
    assert not list(out.rglob("*.partial"))


class Exploding(Critic):
    """Its scores become NaN once its weights have moved far enough."""

    def forward(self, x, labels=None):
        scores = super().forward(x, labels)
        self.seen = getattr(self, "seen", 0) + 1
        return scores * float("nan") if self.seen > 50 else scores


def test_numbers_that_are_not_finite_end_the_run_and_the_last_good_state_is_kept(tmp_path):
    out = tmp_path / "run"
    with pytest.raises(DivergedError, match="last_good"):
        trained(out, build=lambda recipe, shape, classes: (Generator(shape, 3, classes), Exploding(shape, classes)))
    tensors, about = unpack(out / "last_good" / FILE)
    assert about["progress"]["step"] == 5
    assert all(value.isfinite().all() for value in tensors.values() if value.is_floating_point())
    assert all(value.isfinite().all() for value in unpack(out / "generator.safetensors")[0].values())
    warning = json.loads((out / "run.json").read_text())["warnings"][-1]
    assert warning["kind"] == "not_finite"
    assert 5 < warning["step"] <= 10
    assert warning["remedy"]


class Stuck(Generator):
    """One point, whatever the noise."""

    def forward(self, x, labels, z):
        return super().forward(x, labels, z * 0)


def test_one_mode_is_noticed_said_once_and_not_kept_as_good(tmp_path):
    recipe, out = replace(PLAIN, steps=230, critic_steps=1, lr=1e-4), tmp_path / "run"
    run = trained(
        out,
        recipe,
        every=20,
        measure=None,
        build=lambda r, shape, classes: (Stuck(shape, 3, None), Critic(shape, None)),
    )
    assert [(w["kind"], w["step"]) for w in run.warnings] == [("one_mode", 100)]
    assert json.loads((out / "run.json").read_text())["warnings"] == run.warnings
    assert not (out / "last_good").exists()
    assert run.step == 230


class Cut(Generator):
    """The noise reaches the samples; no gradient reaches the parameters."""

    def forward(self, x, labels, z):
        made = super().forward(x, labels, z)
        return made.detach() + 0 * made


def test_a_critic_always_right_and_a_generator_without_gradient_are_noticed(tmp_path):
    recipe = replace(PLAIN, steps=400, critic_steps=1, batch=16, lr=1e-2, penalty="none", objective="minimax")
    data = Samples(samples().x.clamp(0.5, 1.0))  # far from what the generator makes
    data.x[0, 0, 0, 0] = -0.1  # within [-1, 1], as is seen from this
    run = trained(
        tmp_path / "run", recipe, data, every=20, measure=None, build=lambda r, s, c: (Cut(s, 3, None), Critic(s, None))
    )
    assert {w["kind"] for w in run.warnings} >= {"no_gradient", "critic_always_right"}


def test_a_fault_that_ends_and_returns_is_said_twice():
    history, warnings = [], []
    for step in range(0, 90, 10):
        history.append({"step": step, "right": 0.9 if step == 40 else 1.0, "slope": 1.0, "spread": 1.0})
        warnings += new_warnings(history, warnings, patience=20)
    assert [w["step"] for w in warnings] == [20, 70]


def test_a_healthy_run_has_no_warnings(whole):
    assert Run.load(whole, build_restless).warnings == []
    assert (whole / "last_good" / FILE).is_file()


def test_a_run_learns(tmp_path):
    """Points of N(3, 0.5^2), from noise round 0."""
    data = Samples(3 + 0.5 * torch.randn(500, 1, generator=torch.Generator().manual_seed(0)))
    recipe = replace(
        PLAIN, steps=400, batch=64, critic_steps=1, penalty="r1r2", penalty_weight=0.1, lr=1e-2, half_life=2000
    )
    run = trained(tmp_path / "run", recipe, data, build=build, measure=None, every=200)
    made = run.sample(2000)
    assert made.mean() == pytest.approx(3, abs=0.15)
    assert made.std() == pytest.approx(0.5, abs=0.2)


X = samples().x
BAD = {
    "float64": (Samples(X.double()), PLAIN, "float64"),
    "8 bits": (Samples((X * 100).to(torch.uint8)), PLAIN, "uint8.*127.5"),
    "no tensor": (Samples(X.numpy()), PLAIN, "ndarray"),  # type: ignore[arg-type]
    "three dimensions": (Samples(X[:, 0]), PLAIN, r"\[50, 4, 4\]"),
    "none": (Samples(X[:0]), PLAIN, "no samples"),
    "too large": (Samples(X * 255), PLAIN, r"within \[-25"),
    "unit range": (Samples(X.abs()), PLAIN, r"2 \* x - 1"),
    "nan": (Samples(X.where(X < 0.9, torch.nan)), PLAIN, "NaN"),
    "few": (Samples(X[:7]), PLAIN, "batch of 8 .* 7 samples"),
    "no labels": (Samples(X), RECIPE, "no labels"),
    "no classes": (replace(samples(), classes=None), RECIPE, "no number of classes"),
    "class out of range": (replace(samples(), classes=2), RECIPE, "within 0 and 2"),
    "labels of another type": (replace(samples(), labels=torch.zeros(50)), RECIPE, "int64"),
    "labels too few": (replace(samples(), labels=torch.zeros(49, dtype=torch.int64)), RECIPE, r"\[49\]"),
    "bfloat16 on a CPU": (samples(), replace(PLAIN, precision="bfloat16"), "gains nothing"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_learnt_from_is_refused_before_anything_is_written(name, tmp_path):
    data, recipe, said = BAD[name]
    with pytest.raises(InputError, match=said):
        trained(tmp_path / "run", recipe, data, device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_generator_of_another_shape_is_refused(tmp_path):
    with pytest.raises(InputError, match="makes"):
        trained(tmp_path / "run", build=lambda recipe, shape, classes: build(recipe, (3, 4, 4), classes))


@pytest.mark.parametrize(
    "bad",
    [{"objective": "hing"}, {"penalty": "r3"}, {"precision": "float16"}, {"steps": 0}, {"batch": 1.5}, {"seed": -1}],
)
def test_a_recipe_that_makes_no_sense_is_refused(bad):
    with pytest.raises(InputError):
        Recipe(**bad)


def test_a_recipe_survives_json():
    recipe = replace(RECIPE, beta2=0.9, penalty_weight=Schedule(1.0, 0.1, over=7, shape="linear"))
    assert Recipe.of(json.loads(json.dumps(recipe.as_config()))) == recipe


def test_each_epoch_shows_every_sample_once_in_an_order_of_its_own():
    order = Order(seed=0, count=10)
    seen = torch.cat([order.at(torch.arange(start, start + 4)) for start in range(0, 20, 4)])
    assert seen[:10].sort().values.tolist() == seen[10:].sort().values.tolist() == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()
    assert torch.equal(Order(seed=0, count=10).at(torch.arange(8, 12)), seen[8:12])
    assert torch.equal(order.at(torch.arange(0, 35)), torch.cat([order.at(torch.arange(k, k + 1)) for k in range(35)]))


def test_noise_belongs_to_a_samples_number():
    whole, part = Draws(3, torch.arange(8)), Draws(3, torch.arange(4, 8))
    assert torch.equal(whole.latent(5)[4:], part.latent(5))
    assert torch.equal(whole.uniform((8, 2, 3))[4:], part.uniform((4, 2, 3)))
    assert not torch.equal(whole.latent(5), Draws(4, torch.arange(8)).latent(5))


def test_a_perturber_sees_the_samples_and_what_it_must_fool(tmp_path):
    class Perturber(Generator):
        def forward(self, x: Any, labels, z):
            return (x + 0.1 * super().forward(x, labels, z)).clamp(-1, 1)

    victim = nn.Linear(16, 3).requires_grad_(False)

    def fooled(x, fake, labels):
        return -nn.functional.cross_entropy(victim(fake.flatten(1)), labels, reduction="none")

    run = trained(
        tmp_path / "run",
        build=lambda recipe, shape, classes: (Perturber(shape, 3, classes), Critic(shape, classes)),
        adversary=fooled,
        measure=None,
    )
    assert run.history[-1]["fooling"] < 0
