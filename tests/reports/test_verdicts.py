"""Is what an audit says of its verdict and its bracket counted right, and does it raise the doubts that it should?"""

import numpy as np
import pandas as pd
import pytest

from attacks.doubts import MEANINGS, Doubt
from attacks.verdict import Stage
from reports import doubts, verdicts

ABOUT = {
    "configuration": {
        "attacks": {
            "pgd": {"class": "GradientAscent"},
            "first": {"class": "Verdict", "effort": "quick"},
            "verdict": {"class": "Verdict", "effort": "standard"},
        }
    },
    "data": {"classes": [str(k) for k in range(10)]},
}
NO_CURVE = pd.DataFrame({name: [] for name in ("model", "norm", "attack", "id", "correct", "size")})
NO_CERTIFICATE = pd.DataFrame({name: [] for name in ("model", "threat", "id", "margin", "certified")})


def rows(n: int = 100, attack: str = "verdict", threat: str = "linf:0.1", **columns) -> pd.DataFrame:
    """n examples, right when clean; nothing fooled, after 30 forwards and 20 gradients in the rounds."""
    usual = {
        "model": "m",
        "threat": threat,
        "attack": attack,
        "id": np.arange(n),
        "label": np.arange(n) % 10,
        "correct": True,
        "fooled": False,
        "clean_prediction": np.arange(n) % 10,
        "adversarial_prediction": np.arange(n) % 10,
        "size": np.inf,
        "queries": 30,
        "backwards": 20,
        "passes": -1,
        "stage": int(Stage.ROUNDS),
        "doubts": 0,
        "gap": 0.5,
    }
    return pd.DataFrame({**usual, **columns})


def with_fallen(at: dict[int, int], stage: Stage = Stage.LOOK, **columns) -> pd.DataFrame:
    """at: id -> passes after which it fell."""
    frame = rows(**columns)
    for id_, passes in at.items():
        frame.loc[id_, ["fooled", "passes", "stage"]] = [True, passes, int(stage)]
        frame.loc[id_, ["queries", "backwards"]] = [passes, 0]
    return frame


def certificates(certified: list[int], tried: int = 20, threat: str = "linf:0.1") -> pd.DataFrame:
    ids = np.arange(tried)
    return pd.DataFrame(
        {"model": "m", "threat": threat, "id": ids, "margin": 0.0, "certified": np.isin(ids, certified)}
    )


def told(frame: pd.DataFrame, bounds: pd.DataFrame = NO_CERTIFICATE, curve: pd.DataFrame = NO_CURVE) -> dict:
    return verdicts.numbers(frame, curve, bounds, ABOUT["configuration"])["m"]["linf:0.1"]


def said(frame: pd.DataFrame, about: dict = ABOUT) -> dict[str, str]:
    """text -> severity; but for the note that nothing broke."""
    found = {doubt["text"]: doubt["severity"] for doubt in doubts.doubts(about, frame, NO_CURVE)}
    return {text: severity for text, severity in found.items() if not text.startswith("Nothing broke")}


def test_examples_are_counted_by_the_last_stage_that_they_came_to():
    frame = with_fallen({0: 1, 1: 8, 2: 9})
    frame.loc[0, ["correct", "stage"]] = [False, int(Stage.CLEAN)]
    stages = told(frame)["verdict"]["stages"]
    assert stages["clean"] == {"fell": 1, "stood": 0}
    assert stages["look"] == {"fell": 2, "stood": 0}
    assert stages["rounds"] == {"fell": 0, "stood": 97}
    assert sum(sum(stage.values()) for stage in stages.values()) == 100


def test_the_last_half_of_the_passes_is_counted_on_what_stands():
    """98 examples stand after 50 passes each: the last half are those after the 25th, the last tenth after the 45th."""
    final = told(with_fallen({0: 25, 1: 26}))["verdict"]["final"]
    assert final == {"half": {"beyond": 25, "fell": 1}, "tenth": {"beyond": 45, "fell": 0}}


def test_half_of_unequal_passes_is_where_half_of_their_sum_is_reached():
    """Two stand after 10 and 110 passes: 60 of the 120 are spent within 50 each, 10 and 50."""
    frame = rows(n=2, queries=[10, 110], backwards=0)
    assert told(frame)["verdict"]["final"]["half"]["beyond"] == 50


def test_where_nothing_stands_the_number_is_final():
    verdict = told(with_fallen(dict.fromkeys(range(4), 5), n=4))["verdict"]
    assert verdict["final"]["half"] == {"beyond": 0, "fell": 0}
    assert verdicts.final(verdict, 4) == "Nothing withstood it: it cannot break more."


def test_the_quantiles_are_those_of_examples():
    frame = rows(n=10, queries=np.arange(1, 11))
    assert told(frame)["verdict"]["queries"] == {"mean": 5.5, "median": 6.0, "p90": 10.0, "most": 10.0}


def test_the_verdict_of_the_greatest_effort_speaks():
    quick = rows(attack="first", doubts=int(Doubt.STILL_RISING))
    both = pd.concat([rows(), quick], ignore_index=True)
    assert told(both)["verdict"]["effort"] == "standard"
    assert told(both)["verdict"]["doubts"] == {}


def test_without_a_verdict_nothing_is_told():
    assert verdicts.numbers(rows(attack="pgd"), NO_CURVE, NO_CERTIFICATE, ABOUT["configuration"]) == {}


# Doubts


@pytest.mark.parametrize("doubt", Doubt)
def test_each_doubt_about_what_stands_is_told_with_its_count_and_its_remedy(doubt):
    frame = rows(doubts=np.where(np.arange(100) < 12, int(doubt), 0))
    (text,) = (found := said(frame))
    assert text == f"For 12 of 100 examples that stand, {MEANINGS[doubt].what}. {MEANINGS[doubt].remedy}"
    assert found[text] == "warning"


@pytest.mark.parametrize(("count", "n", "severity"), [(1, 100, "note"), (2, 200, "warning"), (2, 201, "note")])
def test_a_doubt_is_a_warning_from_one_per_cent_of_the_examples_on(count, n, severity):
    frame = rows(n, doubts=np.where(np.arange(n) < count, int(Doubt.NO_RISE), 0))
    assert list(said(frame).values()) == [severity]


def test_a_doubt_about_what_fell_is_none():
    """To this attack or to another."""
    doubted = np.where(np.arange(100) < 12, int(Doubt.NO_RISE), 0)
    other = rows(attack="pgd", fooled=np.arange(100) < 12, passes=20)
    assert said(pd.concat([rows(doubts=doubted), other], ignore_index=True)) == {}


def test_a_first_look_names_the_effort_that_goes_on():
    about = {**ABOUT, "configuration": {"attacks": {"verdict": {"class": "Verdict", "effort": "quick"}}}}
    (text,) = said(rows(doubts=int(Doubt.STILL_RISING)), about)
    assert text.endswith("--effort standard goes after it.")


def test_what_only_the_search_without_gradients_broke_is_a_doubt_about_the_gradients():
    (text,) = (found := said(with_fallen({0: 400, 1: 300, 2: 500}, Stage.SEARCH, queries=600)))
    assert text.startswith("3 of 3 examples that verdict broke withstood its gradients")
    assert found[text] == "warning"


def test_a_number_that_the_last_passes_still_lower_is_not_final():
    (text,) = (found := said(with_fallen({0: 46, 1: 47, 2: 3})))
    assert "those after the first 45 of an example, still broke 2 of 100. Use --effort exhaustive." in text
    assert found[text] == "warning"
    assert said(with_fallen({0: 46, 1: 44})) == {}


# Brackets


def test_both_ends_of_a_bracket_are_of_the_same_examples():
    bracket = told(with_fallen(dict.fromkeys((3, 4, 50, 60), 9)), certificates([0, 1]))["bracket"]
    assert bracket["n_tried"] == 20
    assert bracket["certified"] == {"count": 2, "share": 0.1}
    assert bracket["attacked"] == {"count": 18, "share": 0.9}
    assert verdicts.bracket(bracket) == ("[10.0 %, 90.0 %]", "2 and 18 of the first 20")


def test_a_certified_example_that_an_attack_broke_raises():
    with pytest.raises(RuntimeError, match=r"Examples \[3\] are certified under linf:0.1 and were broken"):
        told(with_fallen({3: 9}), certificates([3]))


def test_a_certified_example_that_fell_within_a_smaller_eps_raises():
    frame = pd.concat([rows(), with_fallen({3: 9}, threat="linf:0.05")], ignore_index=True)
    with pytest.raises(RuntimeError, match="certified"):
        told(frame, certificates([3]))
    larger = pd.concat([rows(), with_fallen({3: 9}, threat="linf:0.2")], ignore_index=True)
    assert told(larger, certificates([3]))["bracket"]["certified"]["count"] == 1


@pytest.mark.parametrize(("size", "raises"), [(0.1, True), (0.11, False)])
def test_a_certified_example_that_the_curve_broke_within_eps_raises(size, raises):
    curve = pd.DataFrame({"model": "m", "norm": "linf", "attack": "fmn", "id": np.arange(100), "correct": True})
    curve = curve.assign(size=np.where(np.arange(100) == 3, size, 1.0), queries=1, backwards=1)
    if raises:
        with pytest.raises(RuntimeError, match="this is a bug"):
            told(rows(), certificates([3]), curve)
    else:
        assert told(rows(), certificates([3]), curve)["bracket"]["certified"]["count"] == 1


# What a reader is told


def test_a_warning_concerns_its_model_and_threat_or_all_of_them():
    def doubt(model, threat, severity="warning"):
        return {"model": model, "threat": threat, "severity": severity, "text": "So."}

    about = {"doubts": [doubt("a", "linf:0.1"), doubt("a", None, "fatal"), doubt(None, None), doubt("a", None, "note")]}
    assert verdicts.warnings(about, "a", ["linf:0.1"]) == 3
    assert verdicts.warnings(about, "a", ["l2:1"]) == 2
    assert verdicts.warnings(about, "b", ["linf:0.1"]) == 1
    assert verdicts.speaking_against(1) == "Doubtful: 1 warning below speaks against it."
