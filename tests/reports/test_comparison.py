"""Does a comparison of two audits say what changed, and refuse what cannot be compared?"""

import io
import re
from math import comb
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from attacks.errors import InputError
from reports import words
from reports.comparing import changes, page, text
from reports.comparing.changes import Comparison
from reports.comparing.paired import Paired
from reports.record import Audit
from tests.reports import synthetic

Z2 = 3.841458820694124  # the square of the normal quantile of 97.5 %


def written(folder: Path, **changed) -> Audit:
    return synthetic.write(folder, **{"n": 130, "models": ("net",), "threats": ("linf:0.1", "l2:0.5"), **changed})


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("compared")
    a = written(folder / "a", found={"pgd": 0.5, "apgd": 0.6, "square": 0.6, "fgsm": 0.3})
    return changes.compare(a, written(folder / "b", accuracy=0.85))


def of_each(audit: Audit, threat: str, column: str, how: str) -> np.ndarray:
    """[n]: a column over all attacks on each example."""
    return audit.rows[audit.rows["threat"] == threat].groupby("id")[column].agg(how).to_numpy()


# What changed


def test_each_example_is_of_one_kind_and_the_counts_are_those_of_the_rows(compared: Comparison):
    for change in compared.changes:
        kinds = np.stack([change.fell, change.rose, change.held, change.down])
        assert (kinds.sum(axis=0) == 1).all()
        stands = [~of_each(audit, change.threat, "fooled", "any") for audit in (compared.a, compared.b)]
        assert np.array_equal(change.fell, stands[0] & ~stands[1])
        assert np.array_equal(change.rose, ~stands[0] & stands[1])
        assert change.fell.sum() > 0
        assert change.rose.sum() + change.held.sum() > 0


def test_the_size_is_of_the_smallest_and_the_passes_are_of_all_attacks(compared: Comparison):
    change = compared.changes[0]
    passes = [of_each(compared.b, change.threat, column, "sum") for column in ("queries", "backwards")]
    assert np.array_equal(change.b.passes, passes[0] + passes[1])
    assert np.array_equal(change.b.size, of_each(compared.b, change.threat, "size", "min"))
    broken = ~change.b.standing
    assert (change.b.taken_for[broken] != change.labels[broken]).all()
    assert np.array_equal(change.b.taken_for[~broken], change.labels[~broken])


def test_an_audit_does_not_differ_from_itself(tmp_path: Path):
    audit = written(tmp_path / "a")
    same = changes.compare(audit, audit)
    assert same.warnings == []
    for change in same.changes:
        assert change.paired.difference == 0
        assert not (change.fell | change.rose | change.other_class | change.smaller | change.larger).any()
        assert not change.passes.any()
    assert "as many of 130" in page.contents(same).headline.title


def test_exchanging_the_audits_exchanges_what_fell_and_what_stands_again(compared: Comparison):
    turned = changes.compare(compared.b, compared.a)
    for one, other in zip(compared.changes, turned.changes, strict=True):
        assert np.array_equal(one.fell, other.rose)
        assert np.array_equal(one.smaller, other.larger)
        assert one.paired.interval == pytest.approx([-end for end in reversed(other.paired.interval)], abs=1e-6)


# The interval and the test


def test_the_test_is_that_of_a_fair_coin():
    """Of 10 that changed, 2 fell: both tails of a fair coin's ten tosses."""
    assert Paired(100, 2, 8).p == pytest.approx(2 * sum(comb(10, k) for k in range(3)) / 2**10)
    assert Paired(100, 0, 0).p == 1


@pytest.mark.parametrize("n", [1, 10, 600])
def test_where_nothing_changed_the_interval_is_known_in_closed_form(n: int):
    end = Z2 / (n + Z2)
    assert Paired(n, 0, 0).interval == pytest.approx((-end, end), rel=1e-6)


@pytest.mark.parametrize("n", [5, 50])
def test_where_all_fell_the_interval_is_known_in_closed_form(n: int):
    assert Paired(n, n, 0).interval == pytest.approx((-1, 2 * Z2 / (n + Z2) - 1), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 2000), st.floats(0, 1), st.floats(0, 1))
def test_the_difference_lies_within_its_interval(n: int, changed: float, fell: float):
    of = round(changed * n)
    paired = Paired(n, round(fell * of), of - round(fell * of))
    low, high = paired.interval
    assert -1 <= low <= paired.difference <= high <= 1


def test_the_interval_covers_as_often_as_it_says():
    """Over all outcomes of 30 examples, weighted by their chance."""
    n = 30
    for fall, rise in ((0.1, 0.05), (0.3, 0.3), (0.5, 0.05)):
        covered = 0.0
        for f in range(n + 1):
            for r in range(n + 1 - f):
                low, high = Paired(n, f, r).interval
                chance = comb(n, f) * comb(n - f, r) * fall**f * rise**r * (1 - fall - rise) ** (n - f - r)
                covered += chance * (low <= rise - fall <= high)
        assert 0.94 < covered < 0.98


# What is refused, and what is warned of


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"n": 60}, "A has 130 examples, B 60"),
        ({"shape": (1, 9, 9)}, "an input of A is 1 × 8 × 8, of B 1 × 9 × 9"),
        ({"threats": ("linf:0.1", "l1:5")}, "L2 ≤ 0.5 in A alone, L1 ≤ 5 in B alone"),
    ],
)
def test_other_data_and_other_threats_are_refused_with_what_differs(tmp_path: Path, changed: dict, said: str):
    a, b = written(tmp_path / "a"), written(tmp_path / "b", **changed)
    with pytest.raises(InputError, match=re.escape(said)):
        changes.compare(a, b)


def test_other_examples_of_the_same_shape_are_refused(tmp_path: Path):
    a, b = written(tmp_path / "a"), written(tmp_path / "b")
    b.about["data"]["sha256"] = "ef" * 32
    with pytest.raises(InputError, match="sha256 abababababab in A, efefefefefef in B"):
        changes.compare(a, b)


def test_threats_that_are_spelled_otherwise_are_the_same(tmp_path: Path):
    a, b = written(tmp_path / "a", threats=("linf:1/10",)), written(tmp_path / "b", threats=("linf:0.1",))
    assert [change.threat for change in changes.compare(a, b).changes] == ["linf:1/10"]


def test_audits_of_one_model_each_compare_whatever_it_is_called(tmp_path: Path):
    a, b = written(tmp_path / "a", models=("before",)), written(tmp_path / "b", models=("after",))
    assert changes.compare(a, b).pairs == {"before and after": ("before", "after")}
    several = written(tmp_path / "c", models=("one", "two"))
    with pytest.raises(InputError, match="A has before, B one and two"):
        changes.compare(a, several)


def test_all_that_differs_beside_the_models_is_warned_of(tmp_path: Path):
    a = written(tmp_path / "a", models=("net", "old"))
    b = written(tmp_path / "b", models=("net", "new"), attacks=("fgsm", "apgd", "verdict"))
    b.about["configuration"]["seed"] = 7
    b.about["configuration"]["attacks"]["apgd"]["steps"] = 5
    b.about["versions"]["torch"] = "9.9"
    found = "\n".join(changes.compare(a, b).warnings)
    for said in (
        "uniform_noise, pgd and square were run in A alone",
        "verdict was run in B alone",
        "apgd had other options in B",
        "The seed differs: 0 in A, 7 in B.",
        "The version of torch differs: 2.15.0 in A, 9.9 in B.",
        "old in A alone",
        "new in B alone",
    ):
        assert said in found


# How it is told


def test_the_headline_is_of_the_threat_where_most_examples_went_one_way(compared: Comparison):
    most = max(abs(change.fell.sum() - change.rose.sum()) for change in compared.changes)
    title = page.contents(compared).headline.title
    assert f"{most} more of 130" in title or f"{most} fewer of 130" in title
    assert words.threat(compared.foremost.threat) in title


def test_every_example_that_changed_sides_is_listed(compared: Comparison):
    (pair,) = page.contents(compared).pairs
    for change in compared.changes:
        listed = [row.id for one in pair.listings if one.threat == words.threat(change.threat) for row in one.rows]
        moved = change.fell | change.rose | change.other_class
        assert sorted(map(int, listed)) == change.ids[moved].tolist()


def test_long_lists_are_cut_and_it_is_said(tmp_path: Path):
    a, b = written(tmp_path / "a", n=700, strength=0.0), written(tmp_path / "b", n=700, strength=np.inf)
    compared = changes.compare(a, b)
    (pair,) = page.contents(compared).pairs
    assert [len(listing.rows) for listing in pair.listings] == [page.LISTED] * 2
    assert f"The first {page.LISTED} of them." in page.page(compared)


def test_the_same_audits_give_the_same_page(compared: Comparison):
    again = changes.compare(Audit.load(compared.a.folder), Audit.load(compared.b.folder))
    assert page.page(again) == page.page(compared)


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_has_room_for_it(compared: Comparison, width: int):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(text.table(compared))
    assert isinstance(console.file, io.StringIO)
    out = console.file.getvalue()
    assert max(map(len, out.splitlines())) <= width
    assert "…" not in out
    for change in compared.changes:
        assert words.points(change.paired.difference) in out


def test_a_difference_never_reads_zero_unless_it_is():
    assert words.points(0) == "0"
    assert words.points(-0.0004) == "\N{MINUS SIGN}0.04"
    assert words.points(0.123) == "+12.3"
    assert words.chance(1e-9) == "p < 0.0001"
    assert words.chance(0.05) == "p = 0.05"
