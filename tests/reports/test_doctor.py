"""`advgan doctor`: what it prints and with which status it ends; and what an audit makes of the same findings."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from attacks.preflight import CHECKS, Finding
from reports import cli
from reports.doctor import examination

NET = """
import torch
from torch import nn
from reports import zoo

class Net(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        self.net, self.before, self.after = zoo.load()["digits_standard"], before, after

    def forward(self, x):
        return self.after(self.net(self.before(x)))

def good(): return Net(lambda x: x, lambda z: z)
def probabilities(): return Net(lambda x: x, lambda z: z.softmax(1))
def huge(): return Net(lambda x: x, lambda z: 1e4 * z)
def logs(): return Net(lambda x: x, lambda z: z.log_softmax(1))
def together(): return Net(lambda x: x, lambda z: z - 0.1 * z.mean(0))
def shuffled(): return Net(lambda x: x, lambda z: z[:, [3, 7, 1, 0, 8, 9, 2, 4, 6, 5]])
def broken(): return Net(lambda x: x[:, 0, 0], lambda z: z)
"""


class Ended(NamedTuple):
    status: int
    out: str
    err: str


Advgan = Callable[..., Ended]


@pytest.fixture
def advgan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Advgan:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    Path("net.py").write_text(NET)

    def run(*arguments: str) -> Ended:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return Ended(int(ended.value.code or 0), told.out, told.err)

    return run


def test_nothing_is_found_wrong_with_the_digits_and_what_was_looked_at_is_said(advgan: Advgan):
    ended = advgan("doctor")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.count("Nothing found.") == 2
    assert "digits_robust" in ended.out
    assert ended.out.count("Looked at") == 1
    assert all(what in ended.out for what in CHECKS)


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("good", 0, ["Nothing found."]),
        ("logs", 0, ["note: The model returns logarithms", "Nothing needs to be done."]),
        ("huge", 0, ["warning: The softmax is saturated for 64 of 64 examples", "Divide the logits"]),
        ("probabilities", 1, ["fatal: The model returns probabilities", "attacks.models.LogProbabilities."]),
        ("together", 1, ["fatal: The model answers an input differently beside others"]),
        ("broken", 1, ["fatal: The model cannot take inputs [b, 1, 8, 8]"]),
    ],
)
def test_each_finding_is_said_with_its_severity_and_its_remedy(advgan: Advgan, name: str, status: int, said: list[str]):
    ended = advgan("doctor", "--model", f"net.py:{name}", "--data", "digits")
    assert (ended.status, ended.err) == (status, "")
    assert all(text in ended.out for text in said)
    assert ("Looked at" in ended.out) == (name == "good")


def test_several_models_are_told_apart_and_one_fatal_finding_is_enough(advgan: Advgan):
    ended = advgan("doctor", "-m", "net.py:probabilities", "-m", "net.py:good", "-d", "digits", "--examples", "20")
    assert ended.status == 1
    assert ended.out.index("probabilities") < ended.out.index("good") < ended.out.index("Nothing found.")


def test_data_of_another_scale_are_found_out(advgan: Advgan):
    rng = np.random.default_rng(0)
    np.savez("dark.npz", x=rng.random((20, 8, 8)) / 255, y=np.arange(20) % 10)
    ended = advgan("doctor", "--model", "net.py:good", "--data", "dark.npz")
    assert ended.status == 0
    assert "warning: All values lie within" in ended.out
    assert "divided by 255 twice" in ended.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "net.py:good"], "needs --data"),
        (["--model", "net.py:goood", "--data", "digits"], "Did you mean 'good'"),
        (["--data", "digit"], "Did you mean 'digits'"),
        (["--examples", "0"], "--examples is 0"),
        (["--device", "cuda:99"], "was asked for"),
        (["--weights", "gone.pt", "--model", "net.py:good", "--data", "digits"], "no file of weights gone.pt"),
    ],
)
def test_what_cannot_be_used_ends_with_status_2_and_one_message(advgan: Advgan, arguments: list[str], said: str):
    ended = advgan("doctor", *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert said in ended.err
    assert ended.err.count("\n") == 1


def test_names_and_sentences_are_never_read_as_markup(capsys: pytest.CaptureFixture[str]):
    from rich.console import Console

    odd = Finding("odd", "note", "It says [bold]so[/bold].", "Ask [link].")
    Console(width=200).print(examination({"[red]model": [odd]}))
    told = capsys.readouterr().out
    assert "[red]model" in told
    assert "[bold]so[/bold]. " in told
    assert "Ask [link]." in told


# -- in an audit --


def audited(advgan: Advgan, name: str) -> dict:
    arguments = ["--model", f"net.py:{name}", "--data", "digits", "--threat", "linf:0.01", "--attack", "fgsm"]
    ended = advgan("audit", *arguments, "--no-curves", "--examples", "120", "--out", name)
    assert ended.status == 0
    about = json.loads(Path(name, "audit.json").read_text())
    warnings = [doubt for doubt in about["doubts"] if doubt["severity"] != "note"]
    assert all(doubt["text"] in ended.out for doubt in warnings)
    return about


def test_an_audit_says_what_was_found_and_doubts_what_it_warns_of(advgan: Advgan):
    about = audited(advgan, "huge")
    (finding,) = about["preflight"]["huge"]
    assert (finding["code"], finding["severity"]) == ("saturated", "warning")
    text = f"{finding['text']} {finding['remedy']}"
    assert {"model": "huge", "threat": None, "severity": "warning", "text": text} in about["doubts"]
    assert "softmax is saturated" in Path("huge", "report.html").read_text()


def test_a_note_is_written_down_and_no_doubt(advgan: Advgan):
    about = audited(advgan, "logs")
    assert [finding["code"] for finding in about["preflight"]["logs"]] == ["log_probabilities"]
    assert not any("logarithms" in doubt["text"] for doubt in about["doubts"])


def test_a_fatal_finding_that_stops_no_audit_stands_first_among_its_doubts(advgan: Advgan):
    about = audited(advgan, "together")
    (finding,) = about["preflight"]["together"]
    assert (finding["code"], finding["severity"]) == ("rows_interact", "fatal")
    assert about["doubts"][0]["severity"] == "fatal"
    assert '<li class="warning"><p class="badge">fatal</p>' in Path("together", "report.html").read_text()


def test_what_the_rows_tell_of_all_examples_is_not_said_twice(advgan: Advgan):
    about = audited(advgan, "shuffled")
    assert [finding["code"] for finding in about["preflight"]["shuffled"]] == ["near_chance"]
    assert sum("guessing" in doubt["text"] for doubt in about["doubts"]) == 1


def test_nothing_found_is_written_down_too(advgan: Advgan):
    assert audited(advgan, "good")["preflight"] == {"good": []}
