"""The command `advgan dataset`: stopped and gone on with, what it says, and with which status it ends."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from reports import cli

NET = """
import os, signal
from pathlib import Path
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.passes = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), 0

    def forward(self, x):
        self.passes += 1
        stop = Path("stop")
        if stop.exists() and self.passes == int(stop.read_text().split()[0]):
            os.kill(os.getpid(), int(stop.read_text().split()[1]))
        return self.net(x - 0.5)

def make(): return Net()
"""

ALWAYS = ["--model", "net.py:make", "--data", "ok.npz", "--threat", "linf:0.1", "--threat", "l2:0.5", "--shard", "10"]
CLOCK = "timings.json"


class Ended(NamedTuple):
    status: int
    out: str
    err: str


Advgan = Callable[..., Ended]


@pytest.fixture
def advgan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Advgan:
    """Run `advgan dataset` in a folder of its own, where net.py and ok.npz are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    Path("net.py").write_text(NET)
    x = np.random.default_rng(0).integers(64, 192, (45, 6, 6), dtype=np.uint8)
    np.savez("ok.npz", x=x, y=np.arange(45) % 3)

    def run(*arguments: str | Path) -> Ended:
        with pytest.raises(SystemExit) as ended:
            cli.main(["dataset", *(str(argument) for argument in arguments)])
        told = capsys.readouterr()
        return Ended(int(ended.value.code or 0), told.out, told.err)

    return run


def apart(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-W", "error", "-m", "reports.cli", "dataset", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def contents(folder: str) -> dict[str, bytes]:
    root = Path(folder)
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def same(one: str, other: str) -> bool:
    first, second = contents(one), contents(other)
    return first.keys() == second.keys() and all(first[name] == second[name] for name in first if name != CLOCK)


def test_a_set_is_written_told_of_and_verified(advgan: Advgan):
    ended = advgan(*ALWAYS, "--attack", "pgd", "--out", "set")
    assert ended.status == 0
    assert ended.err == ""
    assert "every one was read back and verified" in " ".join(ended.out.split())
    assert "set/README.md" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80
    told = advgan("verify", "set", "--model", "net.py:make", "--data", "ok.npz")
    assert (told.status, told.err) == (0, "")
    assert "all of it holds" in told.out


@pytest.mark.parametrize("format_", ["parquet", "imagefolder", "webdataset", "npz"])
def test_killed_in_the_middle_it_goes_on_and_ends_with_the_same_bytes(advgan: Advgan, format_: str):
    asked = [*ALWAYS, "--attack", "pgd:steps=5", "--attack", "fgsm", "--format", format_, "--pairs"]
    assert advgan(*asked, "--out", "whole").status == 0
    Path("stop").write_text(f"60 {int(signal.SIGKILL)}")
    killed = apart(*asked, "--out", "killed")
    assert killed.returncode == -signal.SIGKILL
    kept = sorted(Path("killed/.progress").glob("shard-*.json"))
    assert 1 <= len(kept) < 5
    assert not Path("killed/manifest.json").exists()
    assert advgan("verify", "killed").status == 2
    before = {path: path.stat().st_mtime_ns for path in Path("killed").rglob("shard-00000*")}
    Path("stop").unlink()
    assert advgan(*asked, "--out", "killed").status == 0
    assert same("whole", "killed")
    still = {path: path.stat().st_mtime_ns for path in before if path.exists()}
    assert still
    assert all(before[path] == at for path, at in still.items())


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(advgan: Advgan):
    asked = [*ALWAYS, "--attack", "pgd:steps=5", "--out", "set"]
    Path("stop").write_text(f"60 {int(signal.SIGINT)}")
    ended = advgan(*asked)
    assert ended.status == 130
    assert "finished shards are kept in set. The same command goes on" in ended.err
    assert len(ended.err.splitlines()) == 1
    Path("stop").unlink()
    assert advgan(*asked).status == 0


def test_ctrl_c_before_the_first_shard_leaves_nothing(advgan: Advgan):
    Path("stop").write_text(f"2 {int(signal.SIGINT)}")
    ended = advgan(*ALWAYS, "--out", "deep/set")
    assert (ended.status, ended.err) == (130, "advgan: stopped; nothing was written.\n")
    assert not Path("deep/set").exists()


def test_a_finished_set_is_left_as_it_is(advgan: Advgan):
    asked = [*ALWAYS, "--attack", "fgsm", "--out", "set"]
    assert advgan(*asked).status == 0
    before = {path: path.stat().st_mtime_ns for path in Path("set").rglob("*")}
    assert advgan(*asked).status == 0
    assert before == {path: path.stat().st_mtime_ns for path in Path("set").rglob("*")}


@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_of_another_configuration_is_refused_with_the_difference(advgan: Advgan, finished: bool):
    asked = [*ALWAYS, "--attack", "pgd:steps=5", "--out", "set"]
    if not finished:
        Path("stop").write_text(f"60 {int(signal.SIGINT)}")
    assert advgan(*asked).status == (0 if finished else 130)
    Path("stop").unlink(missing_ok=True)
    before = contents("set")
    ended = advgan(*[*asked[:-4], "--attack", "pgd:steps=6", "--out", "set"], "--seed", "3")
    assert ended.status == 2
    assert "configuration.attacks.pgd.steps: 5 there, 6 asked" in ended.err
    assert "configuration.seed: 0 there, 3 asked" in ended.err
    assert contents("set") == before


def test_other_weights_or_other_data_under_the_same_names_are_refused(advgan: Advgan):
    asked = [*ALWAYS, "--attack", "pgd:steps=5", "--out", "set"]
    Path("stop").write_text(f"60 {int(signal.SIGINT)}")
    assert advgan(*asked).status == 130
    Path("stop").unlink()
    Path("net.py").write_text(NET.replace("manual_seed(0)", "manual_seed(1)"))
    assert "model.sha256" in advgan(*asked).err
    Path("net.py").write_text(NET)
    np.savez("ok.npz", x=np.full((45, 6, 6), 99, dtype=np.uint8), y=np.arange(45) % 3)
    ended = advgan(*asked)
    assert ended.status == 2
    assert "begun with other data" in ended.err


def test_a_finished_shard_whose_file_was_cut_short_is_made_anew(advgan: Advgan):
    asked = [*ALWAYS, "--attack", "pgd:steps=5"]
    assert advgan(*asked, "--out", "whole").status == 0
    Path("stop").write_text(f"60 {int(signal.SIGINT)}")
    assert advgan(*asked, "--out", "set").status == 130
    Path("stop").unlink()
    shard = Path("set/data/shard-00000.parquet")
    shard.write_bytes(shard.read_bytes()[:-50])
    assert advgan(*asked, "--out", "set").status == 0
    assert same("whole", "set")


def test_what_is_there_and_is_no_set_is_left_alone(advgan: Advgan):
    Path("full").mkdir()
    Path("full/letter.txt").write_text("dear")
    Path("file").write_text("dear")
    for out, said in {"full": "no data set of ours", "file": "is a file", "file/set": "cannot be written"}.items():
        ended = advgan(*ALWAYS, "--attack", "fgsm", "--out", out)
        assert ended.status == 2
        assert said in ended.err
    assert Path("full/letter.txt").read_text() == Path("file").read_text() == "dear"


def test_a_full_disk_keeps_the_finished_shards_and_counts_none_that_is_half_written(advgan: Advgan):
    asked = [*ALWAYS, "--attack", "pgd:steps=5", "--out", "set"]
    Path("stop").write_text(f"60 {int(signal.SIGINT)}")
    assert advgan(*asked).status == 130
    Path("stop").unlink()
    kept = contents("set")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, before[1]))
    try:
        ended, fresh = advgan(*asked), advgan(*[*asked[:-1], "fresh"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert ended.status == fresh.status == 2
    assert "disk is full" in ended.err
    assert "finished shards are kept" in ended.err
    assert contents("set") == kept
    assert not Path("fresh").exists()
    assert advgan(*asked).status == 0


def test_what_fails_verification_is_named_and_ends_with_status_1(advgan: Advgan):
    assert advgan(*ALWAYS, "--attack", "pgd:steps=5", "--out", "set", "--pairs").status == 0
    Path("net.py").write_text(NET.replace("manual_seed(0)", "manual_seed(1)"))
    ended = advgan("verify", "set", "--model", "net.py:make")
    assert ended.status == 1
    assert "model: its weights are not those" in ended.out
    assert "-linf-0-1-pgd:" in ended.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "digits"], "names 2 models"),
        (["--model", "net.py:make"], "needs --data"),
        (["--model", "digits_robust"], "Did you mean 'digits:robust'"),
        (["--data", "ok.npz", "--model", "net.py:make"], "needs --threat"),
        ([*ALWAYS, "--format", "zip"], "Known: parquet"),
        ([*ALWAYS, "--attack", "apgdd"], "Did you mean 'apgd'"),
        ([*ALWAYS, "--target", "-1"], "random"),
        ([*ALWAYS, "--target", "next", "--attack", "apgd_t"], "cannot aim at a class"),
        ([*ALWAYS, "--examples", "0"], "at least one"),
        ([*ALWAYS, "--batch-size", "0"], "at least one example"),
        ([*ALWAYS, "--device", "tpu"], "no device"),
        ([*ALWAYS, "--weights", "none.pt"], "none.pt"),
        (["--data", "nothing.npz", "--threat", "l2:1"], "no file or folder nothing.npz"),
        (["--threat", "l2:-1"], "eps is -1"),
        (["verify", "nowhere"], "holds no manifest.json"),
    ],
)
def test_odd_input_is_answered_in_a_sentence_and_leaves_nothing(advgan: Advgan, arguments: list[str], said: str):
    ended = advgan(*arguments)
    assert ended.status == 2
    assert said in " ".join(ended.err.split())
    assert "Traceback" not in ended.err
    assert sorted(path.name for path in Path().iterdir() if path.name != "__pycache__") == ["net.py", "ok.npz"]


def test_data_that_do_not_fit_the_model_are_refused(advgan: Advgan):
    np.savez("large.npz", x=np.zeros((8, 7, 7), np.uint8), y=np.arange(8) % 3)
    np.savez("many.npz", x=np.zeros((8, 6, 6), np.uint8), y=np.arange(8))
    for data, said in {"large.npz": "cannot take inputs [b, 1, 7, 7]", "many.npz": "Labels run from"}.items():
        ended = advgan("--model", "net.py:make", "--data", data, "--threat", "l2:1", "--out", "set")
        assert ended.status == 2
        assert said in ended.err
        assert not Path("set").exists()


def test_jpeg_comes_with_a_warning_and_its_loss(advgan: Advgan):
    ended = advgan(*ALWAYS, "--attack", "pgd:steps=5", "--encoding", "jpeg", "--out", "set")
    assert ended.status == 0
    assert "JPEG is lossy" in ended.err
    assert "JPEG lost" in ended.out


def test_a_set_without_a_row_is_not_called_verified(advgan: Advgan):
    _, out, _ = advgan(
        "--model", "net.py:make", "--data", "ok.npz", "--threat", "linf:0", "--successes", "--out", "set"
    )
    assert "0 rows against make, from 45 examples of ok.npz; no attack found anything." in " ".join(out.split())
    assert "read back and verified" not in out


def test_the_manifest_says_what_was_typed_but_not_where_it_was_written(advgan: Advgan):
    assert advgan(*ALWAYS, "--attack", "fgsm", "--licence", "CC0 <b>", "--out", "set").status == 0
    about = json.loads(Path("set/manifest.json").read_text())
    assert about["configuration"]["model_named"] == "net.py:make"
    assert about["data"]["licence"] == "CC0 <b>"
    assert "<b>" not in Path("set/README.md").read_text().partition("---\n\n")[2]
