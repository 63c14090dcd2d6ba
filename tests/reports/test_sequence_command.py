"""The command `advgan train sequence`, and `sample` and `show` of what it wrote: files, statuses, and the way back."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from advgan.sequences import generators
from advgan.sequences.model import NEVER
from advgan.sequences.text import UNKNOWN, UNREADABLE
from reports.terminal import Bar
from tests.reports.commands import Advgan, Ended

ORACLE = ["--length", "4", "--sequences", "80", "--epochs", "2", "--embedding", "4", "--hidden", "4"]
GAME = ["--rounds", "2", "--critic-lr", "0.01"]
SEQGAN = ["--method", "seqgan", *GAME, "--rollouts", "2", "--critic-first", "1", "--critic-sequences", "64"]
TEXT = ["--data", "names.txt", "--epochs", "2", "--embedding", "4", "--hidden", "4"]
MEASURED = ["nll_oracle", "nll_gen", "kl", "reverse_kl", "jeffreys", "token_js", "js"]
NAMES = [a + b + c for a in ("An", "Be", "Ca", "Do") for b in ("na", "ri", "lo") for c in ("", "s", "tte")]


@pytest.fixture
def advgan(command: Advgan) -> Advgan:
    """Run the command in a folder of its own, where names.txt and truth.npz are."""
    Path("names.txt").write_text("\n".join(NAMES) + "\n")
    save_oracle("truth.npz")
    return command


def save_oracle(path: str, **changed: np.ndarray | None) -> None:
    luck = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"embedding": (6, 3), "W_out": (4, 6), "b_out": (6,)}
    for g in "ifoc":
        shapes |= {f"W_{g}": (3, 4), f"U_{g}": (4, 4), f"b_{g}": (4,)}
    arrays = {name: luck.normal(size=shape).astype(np.float32) for name, shape in shapes.items()} | changed
    np.savez(path, allow_pickle=True, **{name: array for name, array in arrays.items() if array is not None})


def run_json(folder: str = "run") -> dict:
    return json.loads(Path(folder, "run.json").read_text())


def timeless(folder: str) -> str:
    """run.json without its seconds."""
    told = run_json(folder)
    told["seconds"] = 0
    for row in told["history"]:
        row["seconds"] = 0
    return json.dumps(told)


def refused(ended: Ended, said: str, folder: str = "run") -> None:
    assert ended.status == 2
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert "Traceback" not in ended.err
    assert not Path(folder).exists()


# What is written


def test_a_run_on_an_oracle_writes_each_measure_with_its_error(advgan: Advgan):
    ended = advgan("train", "sequence", *ORACLE, "--out", "run")
    assert (ended.status, ended.err) == (0, "")
    assert "Jeffreys divergence" in ended.out
    told = run_json()
    assert told["format"] == 1
    assert told["config"]["what"] == "sequence"
    assert told["warnings"] == [] or told["warnings"][0]["remedy"]
    for name in MEASURED:
        assert 0 <= told["measures"][f"{name}_error"] < 0.2
        assert told["history"][-1][name] == pytest.approx(told["measures"][name], abs=0.3)
    found = told["measures"]
    assert found["jeffreys"] == pytest.approx(found["kl"] + found["reverse_kl"])
    assert found["entropy"] == pytest.approx(found["nll_gen"] - found["kl"])
    assert {path.name for path in Path("run").iterdir()} == {
        "about.json",
        "generator.safetensors",
        "pictures.npz",
        "report.html",
        "run.json",
        "samples",
        "state.safetensors",
    }
    swept = json.loads(Path("run/about.json").read_text())["results"]["sweep"]
    assert [row["tau"] for row in swept] == [0.5, 0.7, 0.85, 1.0, 1.2, 1.5]
    assert swept[0]["nll_oracle"] != swept[-1]["nll_oracle"]


def test_an_oracle_from_a_file_is_learnt(advgan: Advgan):
    assert advgan("train", "sequence", "--data", "oracle:truth.npz", *ORACLE, "--out", "run").status == 0
    about = json.loads(Path("run/about.json").read_text())["data"]
    assert (about["vocabulary"], about["shape"], about["training"]) == (6, [4], 80)


def test_a_run_on_text_holds_lines_out_and_measures_both_kinds(advgan: Advgan):
    ended = advgan("train", "sequence", *TEXT, "--out", "run")
    assert (ended.status, ended.err) == (0, "")
    about, found = json.loads(Path("run/about.json").read_text())["data"], run_json()["measures"]
    assert (about["kind"], about["training"], about["held_out"]) == ("characters", 29, 7)
    assert {"perplexity", "perplexity_error", "bleu_2", "self_bleu_2", "distinct_2", "copied"} <= set(found)
    assert found["real_different"] == 1
    tokens = json.loads(Path("run/vocabulary.json").read_text())["tokens"]
    assert set(tokens) == set("".join(NAMES))


@pytest.mark.parametrize("method", [[], SEQGAN, ["--method", "gumbel", *GAME]], ids=["likelihood", "seqgan", "gumbel"])
def test_no_unknown_token_is_written_where_all_that_is_learnt_is_known(advgan: Advgan, method: list[str]):
    few = ["train", "sequence", *TEXT, *method, "--batch", "16", "--epochs", "1"]
    for folder, size in (("whole", []), ("cut", ["--vocabulary-size", "3"])):
        assert advgan(*few, *size, "--out", folder).status == 0
        written = advgan("sample", folder, "--n", "500").out
        assert (UNREADABLE in written) == (folder == "cut")
        model = generators.load(Path(folder))
        assert bool(model.out_bias[UNKNOWN] == NEVER) == (folder == "whole")


@pytest.mark.parametrize("method", [SEQGAN, ["--method", "gumbel", *GAME]], ids=["seqgan", "gumbel"])
@pytest.mark.parametrize("data", [ORACLE, TEXT], ids=["oracle", "text"])
def test_games_are_played_and_compared_with_what_they_began_from(advgan: Advgan, method: list[str], data: list[str]):
    ended = advgan("train", "sequence", *data, *method, "--batch", "16", "--out", "run")
    assert (ended.status, ended.err) == (0, "")
    assert "before the game" in ended.out
    assert "before the game" in Path("run/report.html").read_text()
    if data is ORACLE:
        assert run_json()["measures"]["critic_gap"] > 0


def test_a_game_begins_with_another_runs_generator(advgan: Advgan):
    assert advgan("train", "sequence", *TEXT, "--out", "first").status == 0
    ended = advgan("train", "sequence", *TEXT, *SEQGAN, "--batch", "16", "--start", "first", "--out", "run")
    assert ended.status == 0
    assert run_json()["history"][0]["perplexity"] == run_json("first")["measures"]["perplexity"]
    Path("names.txt").write_text("\n".join(name.swapcase() for name in NAMES))
    refused(
        advgan("train", "sequence", *TEXT, *SEQGAN, "--start", "first", "--out", "again"), "knows other tokens", "again"
    )


def test_the_command_on_the_page_makes_the_same_run_again(advgan: Advgan):
    options = ["--vocabulary", "characters", "--length", "3", "--cut", *SEQGAN, "--no-baseline", "--batch", "16"]
    assert advgan("train", "sequence", *TEXT, *options, "--seed", "4", "--out", "run").status == 0
    words = json.loads(Path("run/about.json").read_text())["command"].replace("\\\n", " ").split()
    assert words[:3] == ["advgan", "train", "sequence"]
    assert advgan(*words[1:-1], "again").status == 0
    assert Path("run/generator.safetensors").read_bytes() == Path("again/generator.safetensors").read_bytes()
    assert timeless("run") == timeless("again")


def test_a_soft_gumbel_game_is_asked_for_as_such(advgan: Advgan):
    options = ["--method", "gumbel", *GAME, "--soft", "--tau", "2", "--out", "run"]
    assert advgan("train", "sequence", *ORACLE, *options).status == 0
    assert (run_json()["config"]["hard"], run_json()["config"]["tau"]) == (False, 2)
    assert "--soft" in json.loads(Path("run/about.json").read_text())["command"]


def test_no_line_is_longer_than_the_longest(advgan: Advgan):
    options = ["--length", "100000", "--generator", "memory", "--out", "run"]
    assert advgan("train", "sequence", *TEXT, *options).status == 0
    assert run_json()["config"]["length"] == 8  # Benatte, and its end
    assert run_json()["config"]["model"]["kind"] == "memory"


# Stopping and going on


def stopping_at(monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    """Ctrl-C comes in that step."""
    shown = Bar.show

    def show(bar, done: int, total: int, doing: str) -> None:
        shown(bar, done, total, doing)
        if done == stop:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("reports.terminal.Bar.show", show)


@pytest.mark.parametrize(
    "asked", [[*TEXT], [*ORACLE, *SEQGAN, "--batch", "16"]], ids=["likelihood of text", "seqgan of an oracle"]
)
def test_ctrl_c_saves_the_step_and_resuming_changes_nothing(advgan: Advgan, monkeypatch, asked: list[str]):
    assert advgan("train", "sequence", *asked, "--out", "whole", "--every", "2").status == 0
    steps = run_json("whole")["config"]["steps"]
    with monkeypatch.context() as patched:
        stopping_at(patched, stop := steps - 1)
        ended = advgan("train", "sequence", *asked, "--out", "run", "--every", "2")
    assert ended.status == 130
    assert ended.err == (
        f"advgan: stopped at step {stop:,} of {steps:,}; all of it is saved. "
        "Go on with: advgan train sequence --resume run\n"
    )
    assert "stopped before its end" in Path("run/report.html").read_text()
    assert advgan("train", "sequence", "--resume", "run", "--every", "2").status == 0
    assert timeless("run") == timeless("whole")
    assert Path("run/generator.safetensors").read_bytes() == Path("whole/generator.safetensors").read_bytes()
    assert "stopped before its end" not in Path("run/report.html").read_text()


def test_a_run_that_is_killed_is_gone_on_with_from_its_last_mark(advgan: Advgan):
    asked = ["--length", "4", "--sequences", "640", "--epochs", "20", "--hidden", "4", "--every", "40"]
    assert advgan("train", "sequence", *asked, "--out", "whole").status == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "reports.cli", "train", "sequence", *asked, "--out", "run"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.DEVNULL,
    )
    while not Path("run/samples/step-80.npz").exists() and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert run_json()["step"] < 200
    assert advgan("train", "sequence", "--resume", "run", "--every", "40").status == 0
    assert timeless("run") == timeless("whole")


def test_a_run_that_was_killed_before_it_said_what_was_asked_is_told_again(advgan: Advgan):
    assert advgan("train", "sequence", *TEXT, "--out", "run").status == 0
    before = timeless("run")
    Path("run/about.json").unlink()
    ended = advgan("train", "sequence", "--resume", "run")
    assert (ended.status, "Resume with what stands there" in ended.err) == (2, True)
    assert advgan("train", "sequence", "--resume", "run", *TEXT).status == 0
    assert timeless("run") == before


def test_a_run_is_neither_written_over_nor_resumed_otherwise(advgan: Advgan):
    assert advgan("train", "sequence", *TEXT, "--out", "run").status == 0
    before = Path("run/run.json").read_bytes()
    ended = advgan("train", "sequence", *TEXT, "--out", "run")
    assert (ended.status, "--resume run" in ended.err) == (2, True)
    ended = advgan("train", "sequence", "--resume", "run", "--seed", "7")
    assert (ended.status, "seed: 0 there, 7 asked" in ended.err) == (2, True)
    Path("names.txt").write_text("\n".join(name.upper() for name in NAMES))
    ended = advgan("train", "sequence", "--resume", "run")
    assert (ended.status, "text: " in ended.err) == (2, True)
    ended = advgan("train", "gan", "--resume", "run")
    assert (ended.status, "advgan train sequence --resume run" in ended.err) == (2, True)
    assert Path("run/run.json").read_bytes() == before


def test_a_finished_run_is_resumed_without_a_change(advgan: Advgan):
    assert advgan("train", "sequence", *TEXT, "--out", "run").status == 0
    before = Path("run/run.json").read_bytes()
    assert advgan("train", "sequence", "--resume", "run").status == 0
    assert Path("run/run.json").read_bytes() == before


# Bad input


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no line of text"),
        (b"word", "1 different line, and 10 are needed"),
        (b"same\n" * 50, "1 different line, and 10 are needed"),
        (b"\n".join(b"a" * k for k in range(1, 30)), "fewer than two different characters"),
        (b"fine\nb\xe9d\n", "byte 6 (of line 2) is 0xe9"),
        (b"\n".join(b"%d " % k + b"x" * 300 for k in range(20)), "20 of 20 lines have more than 256 characters"),
    ],
    ids=["empty", "one token", "one line again and again", "one distinct token", "latin1", "long lines"],
)
def test_text_that_cannot_be_learnt_is_refused_and_nothing_written(advgan: Advgan, content: bytes, said: str):
    Path("bad.txt").write_bytes(content)
    refused(advgan("train", "sequence", "--data", "bad.txt", "--out", "run"), said)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"W_out": np.zeros((4, 5), np.float32)}, "W_out is [4, 5]"),
        ({"b_i": None}, "holds no b_i"),
        ({"embedding": np.full((6, 3), np.nan, np.float32)}, "must be finite floats"),
        ({"W_i": np.array([{}], dtype=object)}, "is not an .npz file of plain arrays"),
        ({"embedding": np.zeros((6, 3), np.int64)}, "must be finite floats"),
    ],
    ids=["shape", "missing", "nan", "objects", "integers"],
)
def test_oracles_that_are_none_are_refused(advgan: Advgan, changed: dict, said: str):
    save_oracle("bad.npz", **changed)
    refused(advgan("train", "sequence", "--data", "oracle:bad.npz", "--out", "run"), said)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--data", "none.txt"], "There is no file none.txt"),
        (["--data", "."], "is a folder"),
        (["--data", "oracle:none.npz"], "There is no file none.npz"),
        (["--data", "oracle:names.txt"], "is not an .npz file"),
        (["--data", "oracle:"], "names no file"),
        (["--embedding", "1000000000000"], "out of memory"),
        (["--hidden", "3", "--generator", "memory"], "2 heads cannot share a width of 3"),
        (["--data", "names.txt", "--length", "3"], "or take them whole with --length 7"),
        (["--data", "names.txt", "--sequences", "9"], "--sequences is for an oracle's sequences"),
        (["--data", "names.txt", "--vocabulary", "letters"], "There is no vocabulary 'letters'"),
        (["--data", "names.txt", "--vocabulary-size", "1"], "It takes 2 tokens or more"),
        (["--cut"], "--cut is for text"),
        (["--method", "gan"], "There is no method 'gan'"),
        (["--rollouts", "4"], "--method likelihood has no --rollouts. Leave it out, or take --method seqgan"),
        (["--method", "seqgan", "--tau", "1"], "take --method gumbel"),
        (["--method", "seqgan", "--rewards", "none"], "There is no kind of rewards 'none'"),
        (["--method", "gumbel", "--start", "none"], "There is no file none/generator.safetensors"),
        (["--start", "run"], "--start is what a game begins with"),
        (["--epochs", "0"], "--epochs is 0; it must be 1 or more"),
        (["--lr", "nan"], "--lr is nan; it is a finite number above 0"),
        (["--length", "0"], "--length is 0"),
        (["--seed", "-1"], "--seed is -1"),
        (["--generator", "gru"], "There is no generator 'gru'"),
        (["--device", "tpu"], "no device 'tpu'"),
        (["--every", "0"], "--every is 0"),
        (["--resume", "none"], "There is no folder none"),
    ],
)
def test_options_that_make_no_sense_are_refused(advgan: Advgan, options: list[str], said: str):
    out = [] if "--resume" in options else ["--out", "run"]
    refused(advgan("train", "sequence", *options, *out), said)


def test_a_folder_with_something_else_in_it_stays_as_it_is(advgan: Advgan):
    Path("run").mkdir()
    Path("run/mine.txt").write_text("mine")
    ended = advgan("train", "sequence", *TEXT, "--out", "run")
    assert (ended.status, "exists and is not empty" in ended.err) == (2, True)
    assert [path.name for path in Path("run").iterdir()] == ["mine.txt"]


def test_a_run_that_diverges_says_so_and_keeps_what_was_before(advgan: Advgan):
    ended = advgan("train", "sequence", *ORACLE, "--lr", "1e38", "--out", "run")
    assert (ended.status, "became NaN or infinite" in ended.err) == (2, True)
    assert "unfinished" in Path("run/report.html").read_text()


# Sampling and showing


def test_samples_are_lines_and_the_first_do_not_depend_on_how_many(advgan: Advgan):
    assert advgan("train", "sequence", *TEXT, "--out", "run").status == 0
    few, more = (advgan("sample", "run", "--n", n).out.split("\n") for n in ("3", "20"))
    assert (len(few), len(more)) == (4, 21)
    assert more[:3] == few[:3]
    assert set("".join(more)) <= set("".join(NAMES))
    assert advgan("sample", "run", "--n", "20", "--seed", "1").out.split("\n") != more
    assert advgan("sample", "run", "--n", "20", "--out", "a.txt", "--npz", "a.npz").status == 0
    assert Path("a.txt").read_text().split("\n") == more
    with np.load("a.npz") as arrays:
        assert arrays["x"].shape == (20, 8)


def test_samples_of_an_oracles_run_are_rows_of_tokens(advgan: Advgan):
    assert advgan("train", "sequence", *ORACLE, "--out", "run").status == 0
    rows = [[int(token) for token in line.split()] for line in advgan("sample", "run", "-n", "4").out.splitlines()]
    assert [len(row) for row in rows] == [4] * 4
    cold = advgan("sample", "run", "-n", "40", "--temperature", "1e-6").out.splitlines()
    assert len(set(cold)) == 1


def test_what_would_steer_a_terminal_is_escaped_there_and_kept_in_files(advgan: Advgan):
    Path("names.txt").write_text("\n".join(f"\x1b[{k % 3}m\x1b\0" * (1 + k // 3) for k in range(30)))
    assert advgan("train", "sequence", *TEXT, "--out", "run").status == 0
    printed = advgan("sample", "run").out
    assert "\\x1b" in printed
    assert not {"\x1b", "\0"} & set(printed + advgan("show", "run").out)
    assert not {"\x1b", "\0"} & set(Path("run/report.html").read_text())
    assert advgan("sample", "run", "--out", "a.txt").status == 0
    assert "\x1b" in Path("a.txt").read_text()


def test_what_cannot_be_sampled_is_refused(advgan: Advgan):
    assert advgan("train", "sequence", *TEXT, "--out", "run").status == 0
    Path("there.txt").write_text("mine")
    for options, said in (
        (["--class", "3"], "has no --class"),
        (["--n", "0"], "--n is 0"),
        (["--temperature", "0"], "A temperature of 0"),
        (["--out", "there.txt"], "there.txt exists"),
        (["--npz", "a.txt"], "ends in .npz"),
        (["--out", "none/a.txt"], "There is no folder none"),
    ):
        refused(advgan("sample", "run", *options), said, "none")
    assert Path("there.txt").read_text() == "mine"
    Path("run/vocabulary.json").write_text("{")
    ended = advgan("sample", "run")
    assert (ended.status, "vocabulary.json is not JSON" in ended.err) == (2, True)


def test_show_tells_of_a_run_and_writes_its_page_again(advgan: Advgan):
    assert advgan("train", "sequence", *TEXT, "--out", "run").status == 0
    shown = advgan("show", "run", "--html", "again.html")
    assert shown.status == 0
    assert "perplexity" in shown.out
    assert "It writes:" in shown.out
    assert Path("again.html").read_bytes() == Path("run/report.html").read_bytes()
