"""Is a checkpoint whole or absent, read without running code, and refused where it does not belong?"""

import errno
import pickle
from pathlib import Path

import pytest
import torch
from players import Critic, Generator
from safetensors.torch import save_file

from advgan import checkpoint
from advgan.checkpoint import FILE, load_checkpoint, pack, save_checkpoint, unpack, write
from advgan.objectives import Relativistic
from advgan.train import Game, Players, train_step
from attacks import InputError

CONFIG = {"lr": {"start": 1e-3, "end": None}, "seed": 0}


def players(seed: int = 0, latent: int = 2) -> Players:
    torch.manual_seed(seed)
    return Players.new(Generator((2,), latent, None), Critic((2,), None))


def trained() -> Players:
    side = players()
    for _ in range(3):
        train_step(side, torch.randn(4, 2), None, torch.randn(4, 2), game=Game(Relativistic()))
    return side


@pytest.fixture
def saved(tmp_path) -> Path:
    save_checkpoint(tmp_path, trained(), {"critic": torch.tensor(0.3)}, CONFIG, {"step": 3, "history": [{"step": 0}]})
    return tmp_path


def test_everything_comes_back_as_it_was(saved):
    other, same = players(seed=1), trained()
    totals, progress = load_checkpoint(saved, other, CONFIG)
    assert progress == {"step": 3, "history": [{"step": 0}]}
    assert totals == {"critic": torch.tensor(0.3)}
    torch.manual_seed(5)
    rows = torch.randn(4, 2), None, torch.randn(4, 2)
    for side in (other, same):  # the optimisers' state shows in the next move
        train_step(side, *rows, game=Game(Relativistic()))
    mine, theirs = checkpoint.state_of(other), checkpoint.state_of(same)
    assert mine.keys() == theirs.keys()
    assert any(name.startswith("critic_opt.0.exp_avg") for name in mine)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_another_configuration_is_refused_with_a_line_for_each_key(saved):
    asked = {"lr": {"start": 2e-3, "end": None}, "seed": 0, "batch": 8}
    with pytest.raises(InputError) as error:
        load_checkpoint(saved, players(), asked)
    lines = str(error.value).splitlines()
    assert "  lr.start: 0.001 there, 0.002 asked" in lines
    assert "  batch: 'absent' there, 8 asked" in lines
    assert "seed" not in str(error.value)


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_a_file_that_was_cut_short_is_refused(saved, kept):
    file = saved / FILE
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(InputError, match="cut short"):
        load_checkpoint(saved, players(), CONFIG)


class Trap:
    """Touches a file when it is unpickled."""


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_pickled_code_is_refused_and_not_run(saved, kind, tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    monkeypatch.setattr(Trap, "__reduce__", lambda self: (Path.touch, (ran,)))
    if kind == "pickle":
        (saved / FILE).write_bytes(pickle.dumps(Trap()))
    else:
        torch.save(Trap(), saved / FILE)
    with pytest.raises(InputError, match="not read"):
        load_checkpoint(saved, players(), CONFIG)
    assert not ran.exists()


@pytest.mark.parametrize("metadata", [None, {"about": '{"format": 2}'}, {"about": "[]"}, {"about": "{"}])
def test_another_format_is_refused(saved, metadata):
    save_file({"x": torch.zeros(1)}, saved / FILE, metadata)
    with pytest.raises(InputError):
        unpack(saved / FILE)


def test_another_network_is_refused(saved):
    with pytest.raises(InputError, match="does not hold this network"):
        load_checkpoint(saved, players(latent=3), CONFIG)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=FILE):
        load_checkpoint(tmp_path, players(), CONFIG)


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_write_that_fails_leaves_what_was_there(saved, fails, monkeypatch):
    before = (saved / FILE).read_bytes()

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.os if fails == "fsync" else Path, fails, full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(saved, players(), {}, CONFIG, {"step": 4})
    monkeypatch.undo()
    assert (saved / FILE).read_bytes() == before
    assert [path.name for path in saved.iterdir()] == [FILE]
    assert load_checkpoint(saved, players(), CONFIG)[1]["step"] == 3


def test_the_new_content_is_on_the_disk_before_the_old_is_gone(tmp_path, monkeypatch):
    file, steps = tmp_path / "file", []
    write(file, b"old")
    replace, fsync = Path.replace, checkpoint.os.fsync
    monkeypatch.setattr(checkpoint.os, "fsync", lambda fd: steps.append(("sync", file.read_bytes())) or fsync(fd))
    monkeypatch.setattr(
        Path, "replace", lambda self, to: steps.append(("replace", self.read_bytes())) or replace(self, to)
    )
    write(file, b"new")
    assert steps[:2] == [("sync", b"old"), ("replace", b"new")]
    assert file.read_bytes() == b"new"


def test_the_same_content_gives_the_same_bytes():
    tensors = {name: torch.arange(k) for k, name in enumerate("dbca")}
    backwards = dict(reversed(tensors.items()))
    assert pack(tensors, CONFIG) == pack(backwards, CONFIG)
