"""Are samples that a model mistakes found from the command line, written as they were found, and told of truly?"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from advgan.fit import Samples, fit
from advgan.recipe import Recipe
from attacks.errors import InputError
from reports import zoo
from reports.training.drawn import draw

STANDARD, ROBUST = "digits:standard", "digits:robust"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("searched") / "run"
    x, labels = zoo.training()
    recipe = Recipe(network="mlp", width=32, depth=1, latent=8, conditional=True, steps=60, batch=32)
    fit(recipe, Samples(2 * x - 1, labels, 10), folder)
    return folder


def drawn(run: Path, out: Path, against: str | None = None, judge: str | None = None):
    files = {"picture": out / "found.png", "npz": out / "found.npz"}
    options: dict[str, Any] = {"label": None, "seed": 1, "device": "cpu", "overwrite": False}
    return draw(run, 60, against=against, judge=judge, **files, **options)


def test_what_is_found_is_written_with_the_classes_asked_for(run, tmp_path):
    files, told = drawn(run, tmp_path, against=STANDARD, judge=ROBUST)
    assert [file.name for file in files] == ["found.png", "found.npz"]
    with np.load(files[1]) as arrays:
        x, asked = torch.from_numpy(arrays["x"]).float().div(255)[:, None], torch.from_numpy(arrays["y"])
    assert len(x) > 2
    assert f"{len(x)} were changed" in told[0]
    mistaken = zoo.load()["digits_standard"](x).argmax(1) != asked
    assert f"Rounded to 8 bits, {float(mistaken.double().mean()):.1%} of them" in told[2]
    assert f"{ROBUST} still takes" in told[1]


def test_without_a_model_nothing_is_searched_and_nothing_told(run, tmp_path):
    _, told = drawn(run, tmp_path)
    assert told == []


def test_models_that_cannot_serve_are_refused_before_anything_is_written(run, tmp_path):
    for against, judge, said in (
        (None, ROBUST, "--judge digits:robust judges what is found --against"),
        (ROBUST, ROBUST, "Name another one to judge"),
        ("digits", None, "Name one, say --against digits:standard"),
    ):
        with pytest.raises(InputError, match=said):
            drawn(run, tmp_path, against, judge)
    assert not list(tmp_path.iterdir())
