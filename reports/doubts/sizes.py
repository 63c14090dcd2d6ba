"""Do the numbers at one eps, at another and along the curve contradict each other?"""

from collections.abc import Iterator

import numpy as np

from reports import words
from reports.doubts.evidence import Evidence, doubt, each, graded
from reports.summary import Sweep


def smaller_eps_broke_more(evidence: Evidence) -> Iterator[dict]:
    for by_threat in evidence.sweeps.values():
        for larger in by_threat.values():
            smaller = [other for other in by_threat.values() if _within(other, larger)]
            broken = [other.broken.any(axis=0) for other in smaller]
            if not smaller:
                continue
            count = int((larger.robust & np.logical_or.reduce(broken)).sum())
            if count:
                text = (
                    f"{larger.threat} leaves {words.plural(count, 'example')} standing that "
                    f"{words.listed([other.threat for other in smaller])} already broke; counting "
                    f"{'it' if count == 1 else 'them'}, {_at_most(larger, count)}. Use an attack with more steps, "
                    "or report the lower number."
                )
                yield doubt(graded(count, larger.n), text, larger.model, larger.threat)


def curve_broke_more(evidence: Evidence) -> Iterator[dict]:
    for sweep in each(evidence):
        curve = evidence.curves.get(sweep.model, {}).get(words.split(sweep.threat)[0])
        if curve is None or words.eps(sweep.threat) == np.inf or not np.array_equal(curve.ids, sweep.ids):
            continue
        count = int((sweep.robust & (curve.size <= words.eps(sweep.threat))).sum())
        if count:
            text = (
                f"The run for the curve ({curve.attack}) breaks {words.plural(count, 'more example')} "
                f"within this eps; counting {'it' if count == 1 else 'them'}, {_at_most(sweep, count)}. "
                "Add a stronger attack, or report the lower number."
            )
            yield doubt(graded(count, sweep.n), text, sweep.model, sweep.threat)


def curve_never_ends(evidence: Evidence) -> Iterator[dict]:
    for model, by_norm in evidence.curves.items():
        left = {norm: int((curve.correct & ~np.isfinite(curve.size)).sum()) for norm, curve in by_norm.items()}
        counts = [
            f"{words.of(count, int(by_norm[norm].correct.sum()))} in {words.norm(norm)}"
            for norm, count in left.items()
            if count
        ]
        if counts:
            attacks = words.listed(list(dict.fromkeys(by_norm[norm].attack for norm, count in left.items() if count)))
            text = (
                f"A curve never reaches zero: at no size did {attacks} find a perturbation for some of the correctly "
                f"classified examples ({words.listed(counts)}), though without a limit nearly all can be broken. "
                "Suspect masked gradients, or give it more steps."
            )
            yield doubt(graded(max(left.values()), next(iter(by_norm.values())).n), text, model)


def eps_makes_no_difference(evidence: Evidence) -> Iterator[dict]:
    for model, by_threat in evidence.sweeps.items():
        for norm in dict.fromkeys(words.split(threat)[0] for threat in by_threat):
            family = sorted(
                (sweep for threat, sweep in by_threat.items() if words.split(threat)[0] == norm),
                key=lambda sweep: words.eps(sweep.threat),
            )
            family = [sweep for sweep in family if words.eps(sweep.threat) < np.inf]
            if not family:
                continue
            first, last = family[0], family[-1]
            stand, n = int(last.robust.sum()), last.n
            wider = words.eps(last.threat) >= 1.5 * words.eps(first.threat)
            if wider and stand == int(first.robust.sum()) and 0 < stand < int(last.correct.sum()):
                text = (
                    f"Robust accuracy does not fall from {first.threat} to {last.threat}: "
                    f"{words.of(stand, n)} stand at both. Suspect masked gradients; add a black-box attack "
                    "and one with another loss."
                )
                yield doubt("warning", text, model, last.threat)


def nothing_broken(evidence: Evidence) -> Iterator[dict]:
    for model, by_threat in evidence.sweeps.items():
        whole = [threat for threat, sweep in by_threat.items() if words.eps(threat) > 0 and not sweep.broken.any()]
        correct = int(next(iter(by_threat.values())).correct.sum())
        if correct and whole:
            text = (
                f"Nothing broke under {words.listed(whole)}: all "
                f"{words.plural(correct, 'correctly classified example')} stand. Check that eps is in the units of the "
                "inputs, and try a larger one."
            )
            yield doubt("note", text, model, whole[0] if len(whole) == 1 else None)


def _within(smaller: Sweep, larger: Sweep) -> bool:
    """Whether one threat's ball lies inside another's of the same norm, and both saw the same examples."""
    same = words.split(smaller.threat)[0] == words.split(larger.threat)[0]
    nested = same and words.eps(smaller.threat) < words.eps(larger.threat) < np.inf
    return nested and np.array_equal(smaller.ids, larger.ids)


def _at_most(sweep: Sweep, fewer: int) -> str:
    count = int(sweep.robust.sum()) - fewer
    return f"robust accuracy is at most {words.percent(count, sweep.n)} ({words.of(count, sweep.n)})"
