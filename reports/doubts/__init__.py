"""What in the rows of an audit speaks against believing it?

Each doubt is {"model", "threat", "severity", "text"}: a name or None for all, "warning" or "note", and a sentence with
its counts and its remedy.
"""

import pandas as pd

from reports import summary, verdicts
from reports.doubts import examples, sizes, strength, verdict
from reports.doubts.evidence import Evidence

BLIND = ("scores", "decision")  # what a model reveals, where that is no gradients
QUESTIONS = (
    examples.never_judged,
    examples.near_chance,
    strength.weak_set,
    strength.masked_gradients,
    strength.single_step_beats_many,
    verdict.doubted_by_the_verdict,
    verdict.gradients_failed,
    verdict.still_finding,
    sizes.smaller_eps_broke_more,
    sizes.curve_broke_more,
    sizes.curve_never_ends,
    sizes.eps_makes_no_difference,
    sizes.nothing_broken,
    examples.sample,
)


def doubts(about: dict, rows: pd.DataFrame, curve_rows: pd.DataFrame) -> list[dict]:
    """Every doubt that the rows alone give rise to; warnings first."""
    evidence = Evidence(
        about.get("configuration", {}),
        list(about.get("data", {}).get("classes", [])),
        summary.sweeps(rows),
        frozenset(name for name, told in about.get("models", {}).items() if told.get("access") in BLIND),
        summary.curves(curve_rows),
        verdicts.verdicts(rows, about.get("configuration", {})),
    )
    found = [doubt for ask in QUESTIONS for doubt in ask(evidence)]
    return sorted(found, key=lambda doubt: doubt["severity"] != "warning")
