"""The command `advgan show`: audits, training runs and two audits side by side, on the terminal and as pages."""

from pathlib import Path

import pytest

from tests.reports import synthetic, synthetic_run
from tests.reports.commands import Advgan


@pytest.fixture
def advgan(command: Advgan) -> Advgan:
    """Run the command in a folder where two audits and a training run are."""
    synthetic.write(Path("a"), n=60, models=("net",))
    synthetic.write(Path("b"), n=60, models=("net",), accuracy=0.8)
    synthetic_run.write(Path("run"))
    return command


@pytest.mark.parametrize("folder", ["a", "run"])
def test_the_page_of_a_folder_is_written_again_the_same(advgan: Advgan, folder: str):
    written = Path(folder, "report.html").read_bytes()
    Path(folder, "report.html").unlink() if folder == "run" else None
    ended = advgan("show", folder, "--html", "again.html")
    assert (ended.status, ended.err) == (0, "")
    assert Path("again.html").read_bytes() == written
    assert ended.out.endswith("Written to again.html\n")


def test_a_run_is_shown_with_its_measures(advgan: Advgan):
    ended = advgan("show", "run")
    assert ended.status == 0
    assert "A generator of digits, 2,000 steps" in ended.out
    assert "96.2 %" in ended.out


def test_two_audits_are_compared_on_the_terminal_and_on_a_page(advgan: Advgan):
    ended = advgan("show", "a", "b", "--html", "changed.html")
    assert (ended.status, ended.err) == (0, "")
    assert "fewer of 60 examples right than A." in ended.out
    assert "Two robustness audits compared" in Path("changed.html").read_text()


def test_a_file_is_replaced_only_where_asked(advgan: Advgan):
    Path("mine.html").write_text("years of work")
    ended = advgan("show", "a", "--html", "mine.html")
    assert ended.status == 2
    assert "--overwrite" in ended.err
    assert Path("mine.html").read_text() == "years of work"
    assert advgan("show", "a", "--html", "mine.html", "--overwrite").status == 0
    assert Path("mine.html").read_text() != "years of work"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "run"], "run is no audit"),
        (["a", "b", "run"], "3 folders were named"),
        (["gone"], "There is no folder gone"),
        (["."], "it is no audit, training run or probe"),
        ([], "There is no folder advgan-audit"),
        (["a", "--html", "a.txt"], "ends in .html"),
        (["a", "--html", "gone/a.html"], "There is no folder gone"),
        (["a", "--html", "b"], "ends in .html"),
    ],
)
def test_what_cannot_be_shown_ends_with_status_2_and_writes_nothing(advgan: Advgan, arguments: list[str], said: str):
    before = sorted(Path().rglob("*"))
    ended = advgan("show", *arguments)
    assert ended.status == 2
    assert said in ended.err
    assert ended.out == ""
    assert sorted(Path().rglob("*")) == before


def test_audits_of_other_threats_are_refused_with_what_differs(advgan: Advgan):
    synthetic.write(Path("c"), n=60, models=("net",), threats=("linf:0.1",))
    ended = advgan("show", "a", "c")
    assert ended.status == 2
    assert "their threats differ (L∞ ≤ 0.2, L2 ≤ 0.5 and L2 ≤ 1.0 in A alone)" in ended.err
