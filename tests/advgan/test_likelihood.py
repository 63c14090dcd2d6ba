"""Does maximum likelihood find what has the highest likelihood, and an interrupted run its way back?"""

import errno
import json
import signal
from dataclasses import replace

import pytest
import torch
from enumerated import LENGTH, VOCABULARY, tiny

from advgan.health import DivergedError
from advgan.run import RUN
from advgan.sequences.likelihood import Likelihood, Recipe
from advgan.sequences.loop import train
from advgan.sequences.sampling import sample
from attacks import InputError

SHORT = Recipe(epochs=2, batch=5, embedding=2, hidden=4)
DATA = sample(tiny(1), 32, LENGTH, seed=0)  # 12.8 steps: batches go across the ends of epochs


def method(recipe: Recipe = SHORT, data: torch.Tensor = DATA) -> Likelihood:
    return Likelihood(recipe, data, VOCABULARY)


def test_it_comes_to_the_entropy_of_the_data(tmp_path):
    """Which no model can do better than, and one that is large enough reaches."""
    data = sample(tiny(1), 500, LENGTH, seed=0)
    shares = data.unique(dim=0, return_counts=True)[1].double() / len(data)
    entropy = -(shares * shares.log()).sum().item()
    trained = method(Recipe(epochs=250, batch=500, embedding=8, hidden=16), data)
    rows = train(trained, tmp_path / "run", measure=lambda g: {"nll": -g.log_likelihood(data).sum(1).mean().item()})
    assert rows[0]["nll"] > entropy + 0.3
    assert entropy <= rows[-1]["nll"] < entropy + 0.02


def test_an_interrupted_run_ends_bit_for_bit_where_an_uninterrupted_one_does(tmp_path):
    whole, broken = method(), method()
    straight = train(whole, tmp_path / "whole", every=4)

    def interrupt(step: int, row: dict) -> None:
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(broken, tmp_path / "broken", every=4, progress=interrupt)
    again = method()
    resumed = train(again, tmp_path / "broken", every=4, resume=True)
    for name, parameter in whole.generator.state_dict().items():
        assert torch.equal(again.generator.state_dict()[name], parameter)
    timeless = [[{k: v for k, v in row.items() if k != "seconds"} for row in rows] for rows in (straight, resumed)]
    assert timeless[0] == timeless[1]
    assert [row["step"] for row in resumed] == [0, 4, 8, 12]
    assert json.loads((tmp_path / "broken" / RUN).read_text())["history"] == resumed


def test_a_run_that_cannot_write_its_first_mark_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("advgan.sequences.loop.write_json", full)  # the last of three files
    with pytest.raises(OSError, match="full"):
        train(method(), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_is_resumed_without_a_step(tmp_path):
    rows = train(method(), tmp_path)
    assert train(method(), tmp_path, resume=True) == rows


def test_another_seed_is_another_run(tmp_path):
    runs = [method(replace(SHORT, seed=seed)) for seed in (0, 0, 1)]
    for number, run in enumerate(runs):
        train(run, tmp_path / str(number))
    outs = [run.generator.out for run in runs]
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


def test_what_cannot_be_gone_on_with_is_refused(tmp_path):
    with pytest.raises(InputError, match="no file"):
        train(method(), tmp_path / "none", resume=True)
    train(method(), tmp_path / "run")
    with pytest.raises(InputError, match="not an empty folder"):
        train(method(), tmp_path / "run")
    with pytest.raises(InputError, match=r"lr: 0\.01 there, 0\.02 asked"):
        train(method(replace(SHORT, lr=0.02)), tmp_path / "run", resume=True)
    with pytest.raises(InputError, match="data: "):
        train(method(data=DATA.flip(0)), tmp_path / "run", resume=True)


def test_a_run_that_leaves_the_finite_numbers_stops_there(tmp_path):
    wild = method(replace(SHORT, lr=float("inf")))
    with pytest.raises(DivergedError, match="nll, a weight of the generator became NaN"):
        train(wild, tmp_path, every=4)
    assert [row["step"] for row in json.loads((tmp_path / RUN).read_text())["history"]] == [0]


def test_recipes_and_data_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="epochs = 0"):
        Recipe(epochs=0)
    with pytest.raises(InputError, match="no tokens"):
        method(data=DATA[:0])
    with pytest.raises(InputError, match="within 0 and 2"):
        method(data=DATA + 1)


def test_a_run_that_is_stopped_is_saved_at_its_step(tmp_path):
    def stop(step: int, row: dict) -> None:
        if step == 3:
            signal.raise_signal(signal.SIGINT)

    whole, stopped, again = method(), method(), method()
    with pytest.raises(KeyboardInterrupt):
        train(stopped, tmp_path / "run", every=4, progress=stop)
    assert json.loads((tmp_path / "run" / RUN).read_text())["step"] == 3
    seen = []
    resumed = train(again, tmp_path / "run", every=4, resume=True, progress=lambda step, row: seen.append(step))
    assert seen == list(range(3, 13))
    straight = train(whole, tmp_path / "whole", every=4)
    assert [row["nll"] for row in resumed[1:]] == [row["nll"] for row in straight[1:]]
    assert torch.equal(whole.generator.out, again.generator.out)
