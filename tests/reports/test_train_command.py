"""The commands `advgan train gan` and `advgan sample`: what they write, and with which status they end."""

import json
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from advgan.run import Run
from reports import cli
from reports.sources import data as sources
from tests.reports.commands import Advgan, Ended

NET = """
import os, signal, torch
from torch import nn

class Judge(nn.Module):
    def __init__(self, classes=3, stop_at=None):
        super().__init__()
        self.classes, self.stop_at, self.calls = classes, stop_at, 0
        self.last = nn.Linear(3, classes)

    def forward(self, x):
        self.calls += len(x) > 2
        if self.calls == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return self.last(torch.stack([x.mean((1, 2, 3)), x.std((1, 2, 3)), x[:, 0, 0, 0]], 1))

def judge():
    torch.manual_seed(0)
    return Judge()

def stopping():
    torch.manual_seed(0)
    return Judge(stop_at=4)

def ten(): return Judge(10)
def fails(): return nn.Linear(5, 3)
"""

SMALL = ["--network", "mlp", "--width", "8", "--latent", "4", "--batch", "8", "--steps", "6", "--every", "2"]
IMAGES = ["--data", "ok.npz", *SMALL]


@pytest.fixture
def advgan(command: Advgan) -> Advgan:
    """Run the command in a folder of its own, where net.py and ok.npz are."""
    Path("net.py").write_text(NET)
    np.savez("ok.npz", x=pixels(60), y=np.arange(60) % 3)
    return command


def pixels(n: int, shape: tuple[int, ...] = (8, 8)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


def arrays_of(file: str) -> dict[str, np.ndarray]:
    with np.load(file) as archive:
        return dict(archive)


def run_json(folder: str = "run") -> dict:
    return json.loads(Path(folder, "run.json").read_text())


def bytes_of(folder: str, file: str = "generator.safetensors") -> bytes:
    return Path(folder, file).read_bytes()


# What is written


def test_a_run_writes_its_folder_and_prints_its_measures(advgan: Advgan):
    ended = advgan("train", "gan", *IMAGES, "--judge", "net.py:judge", "--out", "run")
    assert (ended.status, ended.err) == (0, "")
    assert "recognised" in ended.out
    assert "run/report.html" in ended.out
    assert {path.name for path in Path("run").iterdir()} >= {
        "run.json",
        "about.json",
        "report.html",
        "generator.safetensors",
        "checkpoint",
        "samples",
        "pictures.npz",
    }
    told = run_json()
    assert told["format"] == 1
    assert told["config"]["conditional"] is True
    assert told["config"]["steps"] == 6
    assert set(told["measures"]) >= {"recognised", "frechet", "precision", "recall", "density", "coverage"}
    assert [row["step"] for row in told["history"]][-1] == 6
    assert told["history"][-1]["frechet"] == told["measures"]["frechet"]
    assert told["measures"]["samples"] == 12  # every fifth of 60 is held out
    assert told["measures"]["reference"] == 48
    assert all(abs(row["real"]) < 10 for row in told["history"][1:])  # a mean score, not a count


def test_the_digits_are_learnt_where_nothing_else_is_named(advgan: Advgan):
    ended = advgan("train", "gan", *SMALL)
    assert ended.status == 0
    about = json.loads(Path("advgan-run/about.json").read_text())
    assert about["data"]["name"] == "digits"
    assert (about["data"]["training"], about["data"]["held_out"]) == (1198, 599)
    assert about["judge"] == "digits:standard"
    told = run_json("advgan-run")
    assert told["config"]["conditional"] is True
    assert told["measures"]["real_recognised"] > 0.95


def test_a_judge_that_is_named_makes_the_features_too(advgan: Advgan):
    assert advgan("train", "gan", *IMAGES, "--judge", "net.py:judge", "--out", "run").status == 0
    assert json.loads(Path("run/about.json").read_text())["features"] == "the penultimate layer of net.py:judge"
    assert run_json()["measures"]["features"] == 3
    assert advgan("train", "gan", *IMAGES, "--out", "again").status == 0
    assert run_json("again")["measures"]["features"] == 64


def test_without_a_judge_nothing_is_said_to_be_recognised(advgan: Advgan):
    assert advgan("train", "gan", *IMAGES, "--out", "run").status == 0
    assert "recognised" not in run_json()["measures"]
    assert "frechet" in run_json()["measures"]


def test_an_unconditional_run_needs_no_labels(advgan: Advgan):
    np.savez("bare.npz", x=pixels(40))
    assert advgan("train", "gan", "--data", "bare.npz", "--unconditional", *SMALL, "--out", "run").status == 0
    assert run_json()["config"]["conditional"] is False
    Path("photos").mkdir()
    for k, image in enumerate(pixels(40)):
        Image.fromarray(image).save(f"photos/{k}.png")
    assert advgan("train", "gan", "--data", "photos", "--unconditional", *SMALL, "--out", "again").status == 0


def test_images_in_colour_and_of_other_sizes_are_learnt_at_the_size_asked_for(advgan: Advgan):
    for k, image in enumerate(pixels(40, (17, 13, 3))):
        Path("photos", "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(f"photos/{'ab'[k % 2]}/{k}.png")
    ended = advgan("train", "gan", "--data", "photos", "--image-size", "12", *SMALL, "--out", "run")
    assert ended.status == 0
    assert run_json()["config"]["data"]["shape"] == [3, 12, 12]
    assert advgan("sample", "run", "--class", "b", "--n", "5", "--npz", "b.npz").status == 0
    drawn = arrays_of("b.npz")
    assert drawn["x"].shape == (5, 12, 12, 3)
    assert drawn["y"].tolist() == [1] * 5


def test_the_same_seed_gives_the_same_generator_and_another_gives_another(advgan: Advgan):
    for folder, seed in (("one", "1"), ("same", "1"), ("two", "2")):
        assert advgan("train", "gan", *IMAGES, "--seed", seed, "--out", folder).status == 0
    assert bytes_of("one") == bytes_of("same")
    assert bytes_of("one") != bytes_of("two")


def test_the_command_on_the_page_makes_the_same_generator_again(advgan: Advgan):
    options = ["--penalty", "r1:0.5", "--lr", "0.001", "--unconditional", "--seed", "4"]
    assert advgan("train", "gan", *IMAGES, *options, "--out", "run").status == 0
    words = json.loads(Path("run/about.json").read_text())["command"].replace("\\\n", " ").split()
    assert words[:3] == ["advgan", "train", "gan"]
    assert advgan(*words[1:-1], "again").status == 0
    assert bytes_of("run") == bytes_of("again")


# Stopping and going on


def test_ctrl_c_saves_and_ends_with_status_130_and_resuming_changes_nothing(advgan: Advgan):
    assert advgan("train", "gan", *IMAGES, "--judge", "net.py:judge", "--out", "whole").status == 0
    ended = advgan("train", "gan", *IMAGES, "--judge", "net.py:stopping", "--out", "run")
    assert ended.status == 130
    assert ended.err == (
        "advgan: stopped at step 2 of 6; all of it is saved. Go on with: advgan train gan --resume run\n"
    )
    assert "stopped before its end" in Path("run/report.html").read_text()
    assert "Training stopped before its end, at step 2 of 6." in advgan("show", "run").out
    assert advgan("train", "gan", "--resume", "run", "--judge", "net.py:judge").status == 0
    assert bytes_of("run") == bytes_of("whole")
    assert run_json("run")["measures"] == run_json("whole")["measures"]
    assert "stopped before its end" not in Path("run/report.html").read_text()


def test_a_run_that_is_there_is_neither_written_over_nor_resumed_otherwise(advgan: Advgan):
    assert advgan("train", "gan", *IMAGES, "--out", "run").status == 0
    before = bytes_of("run", "run.json")
    ended = advgan("train", "gan", *IMAGES, "--out", "run")
    assert ended.status == 2
    assert "--resume run" in ended.err
    ended = advgan("train", "gan", "--resume", "run", "--seed", "7", "--objective", "hinge")
    assert ended.status == 2
    assert "seed: 0 there, 7 asked" in ended.err
    assert "objective: 'relativistic' there, 'hinge' asked" in ended.err
    assert bytes_of("run", "run.json") == before


def test_other_data_of_the_same_shape_do_not_go_on_with_a_run(advgan: Advgan):
    assert advgan("train", "gan", *IMAGES, "--out", "run").status == 0
    np.savez("ok.npz", x=255 - pixels(60), y=np.arange(60) % 3)
    ended = advgan("train", "gan", "--resume", "run")
    assert ended.status == 2
    assert "data.digest" in ended.err


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:200]), "cut short"),
        (lambda file: torch.save({"x": [1]}, file), "Pickled files are not read"),
        (lambda file: file.write_bytes(file.read_bytes().replace(b'\\"format\\": 1', b'\\"format\\": 9')), "format 9"),
        (lambda file: file.unlink(), "There is no file"),
    ],
    ids=["truncated", "pickled", "format", "gone"],
)
def test_a_checkpoint_that_is_not_whole_or_not_ours_is_refused(advgan: Advgan, damage: Callable, said: str):
    assert advgan("train", "gan", *IMAGES, "--out", "run").status == 0
    damage(Path("run/checkpoint/state.safetensors"))
    ended = advgan("train", "gan", "--resume", "run")
    assert ended.status == 2
    assert said in ended.err


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may grow beyond that here, which the system reports as it does a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_with_status_2_and_leaves_nothing(advgan: Advgan):
    with full_disk(1024):
        ended = advgan("train", "gan", *IMAGES, "--out", "run")
    assert "disk is full" in ended.err
    refused(ended, "")


def test_a_disk_that_fills_up_keeps_what_was_saved(advgan: Advgan):
    assert advgan("train", "gan", *IMAGES, "--judge", "net.py:stopping", "--out", "run").status == 130
    before = Path("run/checkpoint/state.safetensors").read_bytes()
    with full_disk(4096):
        ended = advgan("train", "gan", "--resume", "run", "--judge", "net.py:judge")
    assert ended.status == 2
    assert "disk is full" in ended.err
    assert "--resume run" in ended.err
    assert Path("run/checkpoint/state.safetensors").read_bytes() == before
    assert not list(Path("run").rglob("*.partial"))
    assert advgan("train", "gan", "--resume", "run", "--judge", "net.py:judge").status == 0


# Bad input


BAD_ARRAYS = {
    "range": ({"x": pixels(60).astype(np.float32)}, "inputs must lie within [0, 1]"),
    "nan": ({"x": np.full((60, 8, 8), np.nan)}, "NaN"),
    "type": ({"x": pixels(60).astype(np.int64)}, "give uint8"),
    "channels": ({"x": pixels(60, (8, 8, 5))}, "1, 3 or 4 channels"),
    "oblong": ({"x": pixels(60, (8, 12))}, "crop them to 8 x 8"),
    "odd": ({"x": pixels(60, (10, 10))}, "a multiple of 4"),
    "vectors": ({"x": pixels(60, (64,))}, "trains on images"),
    "labels": ({"x": pixels(60), "y": None}, "y (labels)"),
    "negative": ({"x": pixels(60), "y": np.arange(60) % 3 - 1}, "negative"),
    "floats": ({"x": pixels(60), "y": np.zeros(60)}, "class numbers are integers"),
    "lengths": ({"x": pixels(60), "y": np.arange(59) % 3}, "each input needs one label"),
    "few": ({"x": pixels(27), "y": np.arange(27) % 3}, "27 images, of which 5 are held out"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_images_that_cannot_be_learnt_from_are_refused(advgan: Advgan, name: str):
    arrays, said = BAD_ARRAYS[name]
    arrays = {"y": np.arange(len(arrays["x"])) % 3, **arrays}
    np.savez("bad.npz", **{key: value for key, value in arrays.items() if value is not None})
    refused(advgan("train", "gan", "--data", "bad.npz", *SMALL, "--out", "run"), said)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--objective", "hing"], "Did you mean 'hinge'"),
        (["--penalty", "r3"], "no penalty 'r3'"),
        (["--penalty", "r1:much"], "no weight"),
        (["--penalty", "r1:-1"], "0 or more"),
        (["--network", "vit"], "no kind of network 'vit'"),
        (["--conditioning", "film"], "film"),
        (["--steps", "0"], "steps"),
        (["--batch", "0"], "batch"),
        (["--batch", "64"], "smaller batch"),
        (["--every", "0"], "--every"),
        (["--latent", "0"], "latent"),
        (["--seed", "-1"], "seed"),
        (["--lr", "0"], "--lr"),
        (["--lr", "nan"], "--lr"),
        (["--precision", "float8"], "precision"),
        (["--device", "tpu"], "no device"),
        (["--judge", "net.py:ten"], "[b, 3]"),
        (["--judge", "net.py:fails"], "cannot take inputs"),
        (["--judge", "net.py:nobody"], "nobody"),
        (["--judge-weights", "w.safetensors"], "--judge"),
        (["--image-size", "12"], "--image-size"),
        (["--data", "digit"], "Did you mean"),
        (["--data", "gone.npz"], "no file"),
        (["--data", "ring", "--conditional"], "ring"),
        (["--data", "ring", "--judge", "net.py:judge"], "ring"),
        (["--resume", "nowhere"], "no folder nowhere"),
        (["--resume", "run", "--out", "other"], "Give one of the two"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_cannot_be_are_refused(advgan: Advgan, options: list[str], said: str):
    out = [] if "--resume" in options else ["--out", "run"]
    refused(advgan("train", "gan", *IMAGES, *options, *out), said)


def refused(ended: Ended, said: str) -> None:
    assert ended.status == 2
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert not Path("run").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(advgan: Advgan):
    Path("run").mkdir()
    Path("run/mine.txt").write_text("mine")
    assert advgan("train", "gan", *IMAGES, "--out", "run").status == 2
    assert advgan("train", "gan", "--resume", "run").status == 2
    assert [path.name for path in Path("run").iterdir()] == ["mine.txt"]


def test_a_game_that_leaves_the_finite_numbers_is_said_to_and_has_its_page(advgan: Advgan):
    ended = advgan(
        "train", "gan", *IMAGES, "--objective", "wasserstein", "--penalty", "none", "--lr", "1e30", "--out", "run"
    )
    assert ended.status == 2
    assert "NaN or infinite" in ended.err
    assert "NaN or infinite" in Path("run/report.html").read_text()


# Sampling


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    np.savez(folder / "ok.npz", x=pixels(60), y=np.arange(60) % 3)
    for name, options in (("run", []), ("blind", ["--unconditional"])):
        command = ["train", "gan", "--data", folder / "ok.npz", *SMALL, *options, "--out", folder / name]
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in command])
        assert not ended.value.code
    return folder


@pytest.fixture
def trained(advgan: Advgan, two_runs: Path) -> Advgan:
    """Where a conditional run and a run without classes are."""
    for name in ("run", "blind"):
        shutil.copytree(two_runs / name, name)
    return advgan


def size(file: str) -> tuple[int, int]:
    with Image.open(file) as image:
        return image.size


def test_samples_are_a_picture_and_arrays_that_an_audit_reads(trained: Advgan):
    ended = trained("sample", "run", "--class", "2", "--n", "10", "--out", "grid.png", "--npz", "two.npz")
    assert (ended.status, ended.out) == (0, "Written to grid.png and two.npz\n")
    assert size("grid.png") == (4 * 8 + 3, 3 * 8 + 2)
    found = sources.load("two.npz")
    batch = next(found.batches(None, 100))
    assert batch.x.shape == (10, 1, 8, 8)
    assert batch.labels.tolist() == [2] * 10
    exact = Run.load("run").sample(10, torch.full((10,), 2), seed=0)
    assert (batch.x - exact).abs().max() <= 0.5 / 255 + 1e-6


def test_the_same_seed_draws_the_same_samples_however_many(trained: Advgan):
    for file, n, seed in (("few.npz", 5, 3), ("many.npz", 300, 3), ("other.npz", 5, 4)):
        assert trained("sample", "run", "--n", str(n), "--seed", str(seed), "--npz", file).status == 0
    few, many, other = map(arrays_of, ("few.npz", "many.npz", "other.npz"))
    assert np.array_equal(few["x"], many["x"][:5])
    assert few["y"].tolist() == [0, 1, 2, 0, 1]
    assert not np.array_equal(few["x"], other["x"])


def test_samples_of_a_run_without_classes_have_no_labels(trained: Advgan):
    assert trained("sample", "blind", "--n", "4", "--npz", "x.npz").status == 0
    assert list(arrays_of("x.npz")) == ["x"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--class", "3"], "no class '3'"),
        (["run", "--class", "-1"], "no class"),
        (["blind", "--class", "1"], "without classes"),
        (["ok.npz"], "ok.npz"),
        (["nowhere"], "nowhere"),
        (["run", "--n", "0"], "at least one"),
        (["run", "--out", "here.png"], "--overwrite"),
        (["run", "--out", "grid.jpg"], ".png"),
        (["run", "--npz", "x.npy"], ".npz"),
        (["run", "--out", "no/where.png"], "no folder no"),
        (["run", "--seed", "-1"], "seed"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_sampled_is_refused(trained: Advgan, arguments: list[str], said: str):
    Path("here.png").write_text("mine")
    ended = trained("sample", *arguments)
    assert ended.status == 2
    assert said in ended.err
    assert Path("here.png").read_text() == "mine"
    assert not Path("samples.png").exists()


def test_a_picture_is_replaced_where_that_is_asked_for(trained: Advgan):
    Path("here.png").write_text("mine")
    assert trained("sample", "run", "--out", "here.png", "--overwrite").status == 0
    assert size("here.png") == (8 * 8 + 7, 8 * 8 + 7)


def test_a_run_of_another_format_is_refused(trained: Advgan):
    told = run_json()
    Path("run/run.json").write_text(json.dumps({**told, "format": 7}))
    for arguments in (["sample", "run"], ["train", "gan", "--resume", "run"]):
        ended = trained(*arguments)
        assert ended.status == 2
        assert "format 7" in ended.err
