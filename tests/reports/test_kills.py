"""Killed with -9 again and again, an audit, a data set and a training run end with the bytes of one that was not."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.reports.toy import begun, contents, ended, killed_and_gone_on_with

KILLS = pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.soak)])
DIGITS = ["-m", "digits:standard", "-d", "digits", "-t", "linf:0.1", "-t", "l2:0.5", "-a", "pgd:steps=20"]


def once(arguments: Sequence[str | Path], folder: Path) -> None:
    status, err = ended(begun(arguments, folder))
    assert status == 0, err


def counted(folder: Path, pattern: str) -> Callable[[], int]:
    return lambda: len(list(folder.glob(pattern)))


@KILLS
def test_a_killed_audit_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, kills: int):
    command = ["audit", *DIGITS, "--certify", "4", "--no-curves", "--shard", "4", "-n", str(32 + 8 * kills)]
    once([*command, "--out", "whole"], tmp_path)
    steps = counted(tmp_path, ".killed.progress/*/shard-*.json")
    died = killed_and_gone_on_with(lambda _: [*command, "--out", "killed"], tmp_path, steps, kills, seed=1)
    assert died > kills / 2
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]


@pytest.mark.parametrize("kills", [1, pytest.param(50, marks=pytest.mark.soak)])
def test_a_killed_audit_of_two_workers_goes_on_and_leaves_none_of_them(tmp_path: Path, kills: int):
    command = ["audit", *DIGITS, "--no-curves", "--shard", "4", "-n", str(32 + 8 * kills)]
    once([*command, "--out", "whole"], tmp_path)
    steps = counted(tmp_path, ".killed.progress/*/shard-*.json")
    asked = [*command, "--workers", "2", "--out", "killed"]
    assert (
        killed_and_gone_on_with(lambda _: asked, tmp_path, steps, kills, seed=2, alone=True) > kills / 2 or kills == 1
    )
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@KILLS
def test_a_killed_data_set_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, kills: int):
    command = ["dataset", *DIGITS, "--shard", "4", "-n", str(32 + 8 * kills)]
    once([*command, "--out", "whole"], tmp_path)
    steps = counted(tmp_path, "killed/.progress/shard-*.json")
    died = killed_and_gone_on_with(lambda _: [*command, "--out", "killed"], tmp_path, steps, kills, seed=3)
    assert died > kills / 2
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@KILLS
def test_a_killed_training_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, kills: int):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "ok.npz", x=rng.integers(0, 256, (60, 8, 8), dtype=np.uint8), y=np.arange(60) % 3)
    options = ["--network", "mlp", "--width", "8", "--latent", "4", "--batch", "8"]
    command = ["train", "gan", "--data", "ok.npz", *options, "--steps", str(300 + 60 * kills), "--every", "20"]
    once([*command, "--out", "whole"], tmp_path)
    run = tmp_path / "killed"
    died = killed_and_gone_on_with(
        lambda _: ["train", "gan", "--resume", "killed"] if run.exists() else [*command, "--out", "killed"],
        tmp_path, counted(run, "*"), kills, seed=4,
    )  # fmt: skip
    assert died > kills / 2
    assert (run / "generator.safetensors").read_bytes() == (tmp_path / "whole/generator.safetensors").read_bytes()
