"""Does a page of a run on sequences read well and fit, for either kind of data, whatever is written on it?"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from reports.sequencing import page, told
from reports.sequencing.job import Sequencing
from reports.sequencing.measured import beside
from reports.sequencing.measured import told as said
from reports.training.folder import train
from reports.training.saved import SavedRun
from tests.reports.looks import BEYOND, FAINT, HEADLESS, SILENT, SIZES, UNREACHED

SMALL = {"epochs": 2, "embedding": 4, "hidden": 4}
GAME = {"rounds": 2, "rollouts": 2, "critic_first": 1, "batch": 16, "critic_sequences": 32}
HOSTILE = ["<script>alert(1)</script>", "</ul><b>bold", "\u202eevil\u202c", "x" * 200, "e\u0301 \u05e9\u05dc"]
LINES = [f"{line} {k} and more" for k in range(6) for line in HOSTILE]


@dataclass(frozen=True)
class Written:
    folder: Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Written]:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "lines.txt").write_text("\n".join(LINES), encoding="utf-8")
    asked = {
        "oracle": ({"length": 4, "sequences": 80}, SMALL),
        "game": ({"length": 4, "sequences": 80, "method": "seqgan"}, SMALL | GAME),
        "text": ({"data": str(folder / "lines.txt")}, SMALL | {"epochs": 20}),
        "text game": ({"data": str(folder / "lines.txt"), "method": "seqgan"}, SMALL | GAME),
    }
    for name, (named, recipe) in asked.items():
        train(Sequencing, named, recipe, folder / name)
    return {name: Written(folder / name) for name in asked}


@pytest.mark.parametrize("name", ["oracle", "game", "text", "text game"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_and_needs_nothing_else(runs: dict[str, Written], opened, name: str, width: int):
    shown = opened(runs[name], width)
    assert shown.told == []
    assert shown.evaluate(BEYOND, width) == []
    assert min(shown.evaluate(SIZES)) >= 9
    for asked in (UNREACHED, SILENT, HEADLESS):
        assert shown.evaluate(asked) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_can_be_read_in_either_light(runs: dict[str, Written], opened, scheme: str):
    assert opened(runs["text game"], 1280, scheme).evaluate(FAINT) == []


def test_what_is_written_is_text_and_no_part_of_the_page(runs: dict[str, Written]):
    html = (runs["text"].folder / "report.html").read_text(encoding="utf-8")
    assert "<script" not in html
    assert "\u202e" not in html


def test_the_same_run_gives_the_same_bytes(runs: dict[str, Written]):
    run = SavedRun.load(runs["game"].folder)
    assert page.page(run) == page.page(run) == (run.folder / "report.html").read_text(encoding="utf-8")


def test_the_oracle_is_beside_its_generator(runs: dict[str, Written]):
    run = SavedRun.load(runs["oracle"].folder)
    assert {name: beside(name, run.measures) for name in ("kl", "js", "token_js")} == dict.fromkeys(
        ("kl", "js", "token_js"), "0"
    )
    entropy = run.measures["entropy"]
    assert abs(float(beside("nll_oracle", run.measures)) - entropy) < 0.01


def test_numbers_have_the_digits_that_their_error_leaves():
    assert said("kl", {"kl": 1.23456, "kl_error": 0.0123}) == "1.235 ± 0.012"
    assert said("kl", {"kl": -0.00012, "kl_error": 0.00021}) == "\N{MINUS SIGN}0.00012 ± 0.00021"
    assert said("perplexity", {"perplexity": 1234.5, "perplexity_error": 123.0}) == "1,234 ± 123"
    assert said("kl", {"kl": 0.5}) == "0.5"


# Warnings

LIKELIHOOD, SEQGAN = {"method": "likelihood"}, {"method": "policy", "epochs": 2, "critic_first": 1}


def history(name: str, *values: float) -> list[dict]:
    return [{"step": step, name: value, f"{name}_error": 0.01} for step, value in enumerate(values)]


def kinds(config: dict, rows: list[dict], **measures: float) -> list[str]:
    return [warning["kind"] for warning in told.warnings(config, rows, measures)]


def test_a_perplexity_that_rises_again_is_said():
    assert kinds(LIKELIHOOD, history("perplexity", 9, 5, 5.2)) == []
    assert kinds(LIKELIHOOD, history("perplexity", 9, 5, 6)) == ["learnt_by_heart"]
    assert kinds(LIKELIHOOD, history("kl", 1, 0.5, 0.53)) == []
    assert kinds(LIKELIHOOD, history("kl", 1, 0.5, 0.6)) == ["learnt_by_heart"]
    assert "the game has made it" in told.warnings(SEQGAN, history("kl", 3, 1, 0.5, 0.4, 2), {})[0]["what"]
    assert "narrows down" in told.warnings(SEQGAN, history("kl", 3, 1, 0.5, 0.4, 0.3, 2), {})[0]["what"]


def test_less_entropy_than_the_oracle_is_said():
    def found(nll: float) -> list[str]:
        return kinds(LIKELIHOOD, history("kl", 1, 0.5), entropy=3.0, nll_oracle=nll, nll_oracle_error=0.01)

    assert found(2.98) == found(3.4) == []
    assert found(2.9) == ["collapse"]


def test_copies_repetition_and_unknown_tokens_are_said():
    rows = history("perplexity", 9, 5)
    fine = {"different": 0.9, "real_different": 1.0, "copied": 0.1, "unknown": 0.01}
    assert kinds(LIKELIHOOD, rows, **fine) == []
    assert kinds(LIKELIHOOD, rows, **fine | {"different": 0.3}) == ["collapse"]
    assert kinds(LIKELIHOOD, rows, **fine | {"copied": 0.6}) == ["copies"]
    assert kinds(LIKELIHOOD, rows, **fine | {"unknown": 0.2}) == ["unknown"]


def test_a_page_of_an_unfinished_run_says_so(runs: dict[str, Written], tmp_path: Path):
    shutil.copytree(runs["text"].folder, tmp_path / "run")
    (tmp_path / "run" / "pictures.npz").unlink()
    run = SavedRun.load(tmp_path / "run")
    run.measures.clear()
    html = page.page(run)
    assert "unfinished" in html
    assert "stopped before it was measured" in html
