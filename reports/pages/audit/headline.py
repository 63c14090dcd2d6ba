"""What is the worst that an audit found, in a few sentences?"""

from reports import verdicts, words
from reports.pages.base import Headline
from reports.pages.shares import share
from reports.summary import Sweep


def headline(about: dict, sweeps: dict[str, dict[str, Sweep]]) -> Headline:
    """The model and threat of which least stands."""
    worst = min((s for by_threat in sweeps.values() for s in by_threat.values()), key=lambda s: int(s.robust.sum()))
    pictures = len(about["data"].get("shape", [])) in (2, 3)
    robust, correct, n = int(worst.robust.sum()), int(worst.correct.sum()), worst.n
    what = "image" if pictures else "input"
    kept = f"none of {words.plural(n, what)}" if robust == 0 else f"{robust:,} of {words.plural(n, what)}"
    left = share(robust, n, interval=True)
    detail = [
        f"That is {left.percent} (95 % interval {left.interval}) when {words.allowance(worst.threat, pictures)} "
        f"({words.threat(worst.threat)}{_scale(about)}), in the worst case over {_attacks(worst)}. "
        f"Unattacked it gets {words.of(correct, n)} right ({words.percent(correct, n)}). {_who(worst)}"
    ]
    ends = about["models"][worst.model]["threats"][worst.threat].get("bracket")
    if ends:
        detail[0] += (
            f" Of the first {words.plural(ends['n_tried'], what)}, {ends['certified']['count']:,} "
            f"{'is' if ends['certified']['count'] == 1 else 'are'} certified to withstand any attack and "
            f"{ends['attacked']['count']:,} withstood these: {verdicts.bracket(ends)[0]}."
        )
    if len(sweeps) > 1:
        detail.append(_comparison(worst, sweeps))
    counts = {
        "example": n,
        "model": len(sweeps),
        "threat": len({threat for by_threat in sweeps.values() for threat in by_threat}),
        "attack": len(
            {name for by_threat in sweeps.values() for sweep in by_threat.values() for name in sweep.attacks}
        ),
    }
    facts = [(name if count == 1 else f"{name}s", f"{count:,}") for name, count in counts.items()]
    warnings = verdicts.warnings(about, worst.model, [worst.threat])
    doubtful = verdicts.speaking_against(warnings) if warnings else ""
    return Headline(f"Under attack, {worst.model} gets {kept} right.", detail, facts, doubtful)


def _scale(about: dict) -> str:
    bounds = about["data"].get("bounds")
    return f"; values run from {words.number(bounds[0])} to {words.number(bounds[1])}" if bounds else ""


def _attacks(sweep: Sweep) -> str:
    return words.plural(len(sweep.attacks), "attack") if len(sweep.attacks) > 1 else f"one attack, {sweep.attacks[0]}"


def _who(sweep: Sweep) -> str:
    broken = sweep.broken
    most, correct = int(broken[sweep.strongest].sum()), int(sweep.correct.sum())
    if not most:
        return "No attack broke any of those."
    name, total = sweep.attacks[sweep.strongest], int(broken.any(axis=0).sum())
    if len(sweep.attacks) == 1:
        return f"{name} broke {most:,} of those {correct:,}."
    if most == total:
        return f"{name} alone breaks all {total:,} that fell."
    return f"{name} breaks {most:,} of the {total:,} that fell; the other attacks found the rest."


def _comparison(worst: Sweep, sweeps: dict[str, dict[str, Sweep]]) -> str:
    others = []
    for model, by_threat in sweeps.items():
        if model != worst.model and worst.threat in by_threat:
            other = by_threat[worst.threat]
            count = int(other.robust.sum())
            others.append(f"{model} keeps {words.of(count, other.n)} ({words.percent(count, other.n)})")
    return f"Under the same attacks, {words.listed(others)}." if others else ""
