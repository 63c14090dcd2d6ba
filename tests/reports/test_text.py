"""Does the terminal show an audit whole, at 80 columns and at 120?"""

import io

import pytest
from rich.console import Console

from reports import text
from reports.record import Audit
from tests.reports import synthetic


def printed(audit: Audit, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(text.table(audit))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def audit(tmp_path_factory) -> Audit:
    return synthetic.write(tmp_path_factory.mktemp("audits") / "audit", n=60, attacks=tuple(synthetic.KINDS))


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(audit, width):
    out = printed(audit, width)
    assert max(map(len, out.splitlines())) <= width
    assert "…" not in out


def test_the_worst_comes_first_with_its_count(audit):
    worst = min(t["robust"] for m in audit.about["models"].values() for t in m["threats"].values())
    assert f"{worst} of 60 right" in printed(audit, 120).strip().splitlines()[0]


def test_every_attack_has_its_seconds_and_every_doubt_is_there(audit):
    out = printed(audit, 120)
    assert out.count("gaussian_noise") >= 8
    assert "seconds in all" in out
    words = " ".join(out.split())
    assert all(doubt["text"] in words for doubt in audit.about["doubts"])


def test_what_is_doubtful_is_marked_and_the_bracket_stands_in_its_table(tmp_path):
    options = {"n": 130, "models": ("m",), "attacks": ("fgsm", "verdict"), "doubted": 0.2, "certify": 40}
    audit = synthetic.write(tmp_path / "audit", threats=("linf:0.02", "linf:0.1"), **options)
    out = printed(audit, 80)
    told = audit.about["models"]["m"]["threats"]["linf:0.1"]
    assert f"! {text.words.share(told['robust_accuracy'])}" in out
    assert "speaks against it" in out or "speak against it" in out
    assert text.verdicts.bracket(told["bracket"])[0] in out
    assert f"{told['verdict']['doubtful']} of {told['verdict']['standing']}" in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_name_is_not_read_as_markup(tmp_path):
    audit = synthetic.write(tmp_path / "audit", n=20, models=("[red]net[/red]", "[/]"), gallery=0)
    assert "[red]net[/red]" in printed(audit, 120)
    assert "[/]" in printed(audit, 80)


@pytest.mark.parametrize(
    "case", [{"n": 1}, {"attacks": ("verdict",)}, {"strength": 0.0}, {"curves": False}, {"attacks": ("apgd",)}]
)
def test_odd_audits_can_be_printed(tmp_path, case):
    assert "attack" in printed(synthetic.write(tmp_path / "audit", **{"n": 20, **case}), 80)
