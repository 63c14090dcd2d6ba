"""How does an audit read as one page that needs nothing else?

Two steps: `contents` says what stands on the page, as plain data; the templates say how it looks. Names of models and
classes are the user's: the templates escape everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports import figures, reproduce, summary, verdicts, words
from reports.summary import ClassCount, Curve, Sweep

if TYPE_CHECKING:
    from reports.record import Audit

WORST_CLASSES = 15  # shown per model
CARDS = 24  # examples shown as pictures, over all models and threats
TINY = 64  # pixels; smaller pictures are enlarged with hard edges


@dataclass(frozen=True)
class Share:
    """A share, with the count it stands for."""

    fraction: float | None  # None where it is a share of nothing
    percent: str
    count: str  # "12 of 599"
    interval: str = ""
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class Headline:
    title: str
    detail: list[str]
    facts: list[tuple[str, str]]
    doubtful: str  # a sentence; empty where no warning concerns the number


@dataclass(frozen=True)
class Standing:
    """How much of one model stands under one threat."""

    kind: str  # "clean", "threat" or "all"
    label: str
    share: Share
    doubtful: bool = False
    bracket: tuple[str, str] | None = None  # its two ends, and of how many examples


@dataclass(frozen=True)
class Robustness:
    model: str
    standings: list[Standing]


@dataclass(frozen=True)
class Cell:
    share: Share
    alone: int = 0
    strongest: bool = False


@dataclass(frozen=True)
class AttackRow:
    attack: str
    kind: str
    cells: list[Cell]


@dataclass(frozen=True)
class AttackTable:
    model: str
    correct: str
    threats: list[str]
    rows: list[AttackRow]
    together: list[Cell]


@dataclass(frozen=True)
class CurveRow:
    series: int
    model: str
    eps: str
    curve: Share
    suite: Share | None  # what the attacks at that eps left standing


@dataclass(frozen=True)
class CurveChart:
    norm: str
    attack: str
    svg: Markup
    told: str  # the chart in words
    rows: list[CurveRow]


@dataclass(frozen=True)
class ClassRow:
    name: str
    clean: Share
    robust: list[Share]
    to_all: Share
    taken_for: str


@dataclass(frozen=True)
class ClassTable:
    model: str
    threats: list[str]
    taken_for: str  # under which threat and attack
    note: str
    rows: list[ClassRow]


@dataclass(frozen=True)
class Picture:
    uri: str
    alt: str
    caption: str
    detail: str


@dataclass(frozen=True)
class Card:
    title: str
    truth: str
    pictures: list[Picture]


@dataclass(frozen=True)
class Gallery:
    model: str
    cards: list[Card]


@dataclass(frozen=True)
class NoiseRow:
    threat: str
    noise: str
    by_noise: Share
    attack: str
    by_attack: Share
    times: str


@dataclass(frozen=True)
class NoiseTable:
    model: str
    rows: list[NoiseRow]


@dataclass(frozen=True)
class CostRow:
    attack: str
    cells: list[tuple[str, str]]  # forwards, backwards


@dataclass(frozen=True)
class SpreadTable:
    """Passes of the verdict, which differ from example to example."""

    attack: str
    heads: list[str]
    rows: list[tuple[str, list[tuple[str, str]]]]  # threat; forwards, backwards under each head


@dataclass(frozen=True)
class CostTable:
    model: str
    threats: list[str]
    rows: list[CostRow]
    together: list[tuple[str, str]]
    curves: list[str]
    spread: SpreadTable | None


@dataclass(frozen=True)
class BeliefRow:
    threat: str
    doubtful: Share  # of the examples that stand
    stages: list[tuple[str, str]]  # name, what came of it
    final: str


@dataclass(frozen=True)
class BeliefTable:
    model: str
    attack: str
    rows: list[BeliefRow]


@dataclass(frozen=True)
class Doubt:
    severity: str
    about: list[str]
    text: str


@dataclass(frozen=True)
class Page:
    title: str
    headline: Headline
    robustness: list[Robustness]
    several_attacks: bool
    attacks: list[AttackTable]
    legend: list[tuple[int, str]]
    curves: list[CurveChart]
    classes: list[ClassTable]
    gallery: list[Gallery]
    gallery_note: str
    pixelated: bool
    noise: list[NoiseTable]
    cost: list[CostTable]
    passes: str
    belief: list[BeliefTable]
    doubts: list[Doubt]
    models: list[tuple[str, str, str, str]]  # name, named by, parameters, sha256
    facts: list[tuple[str, str]]
    options: list[tuple[str, str]]
    versions: list[tuple[str, str]]
    command: str
    is_command: bool

    @property
    def has_doubtful(self) -> bool:
        return any(standing.doubtful for model in self.robustness for standing in model.standings)

    @property
    def has_bracket(self) -> bool:
        return any(standing.bracket for model in self.robustness for standing in model.standings)


def page(audit: "Audit") -> str:
    """The whole page. The same audit gives the same bytes."""
    return rendered("page.html", contents(audit))


def rendered(template: str, contents: Any) -> str:
    """A template of reports/templates with `page` set to the contents."""
    folder = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(
        loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["tight"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    return environment.get_template(template).render(page=contents)


def contents(audit: "Audit") -> Page:
    """Everything that stands on the page."""
    about, configuration = audit.about, audit.about["configuration"]
    sweeps, curves = summary.sweeps(audit.rows), summary.curves(audit.curves)
    classes = Names(about["data"].get("classes") or [])
    models = list(sweeps)
    gallery, note = _gallery(audit, classes)
    command = reproduce.command(about)
    return Page(
        title=f"Robustness of {words.listed(models, 3)}",
        headline=_headline(about, sweeps),
        robustness=[_robustness(about, by_threat) for by_threat in sweeps.values()],
        several_attacks=any(len(s.attacks) > 1 for by_threat in sweeps.values() for s in by_threat.values()),
        attacks=[_attack_table(by_threat, configuration) for by_threat in sweeps.values()],
        legend=list(enumerate(models)),
        curves=_charts(models, sweeps, curves),
        classes=[_class_table(by_threat, classes) for by_threat in sweeps.values()],
        gallery=gallery,
        gallery_note=note,
        pixelated=max(about["data"].get("shape", [0])[-2:], default=0) < TINY,
        noise=[table for by_threat in sweeps.values() if (table := _noise_table(by_threat, configuration))],
        cost=[_cost_table(about, by_threat, curves.get(model, {})) for model, by_threat in sweeps.items()],
        passes=_passes(audit),
        belief=[table for model in about["models"] if (table := _belief_table(about, model))],
        doubts=_doubts(about["doubts"]),
        models=[
            (name, str(configuration.get("models", {}).get(name, "")), _thousands(model), model.get("sha256", ""))
            for name, model in about["models"].items()
        ],
        facts=_facts(about),
        options=[(name, _options(options)) for name, options in configuration.get("attacks", {}).items()],
        versions=[(name, str(version)) for name, version in about["versions"].items()],
        command=command or reproduce.call(about),
        is_command=command is not None,
    )


class Names:
    """The names of classes; a label without one is its number."""

    def __init__(self, names: Sequence[str]):
        self.names = names

    def __call__(self, label: int) -> str:
        return str(self.names[label]) if 0 <= label < len(self.names) else str(label)

    def __len__(self) -> int:
        return len(self.names)


def share(count: int, total: int, *, interval: bool = False) -> Share:
    """`count` of `total`, with its exact 95 % interval where asked for."""
    count, total = int(count), int(total)
    fraction = count / total if total else None
    if not interval or not total:
        return Share(fraction, words.percent(count, total), words.of(count, total))
    low, high = summary.interval(count, total)
    return Share(fraction, words.percent(count, total), words.of(count, total), words.interval(low, high), low, high)


def _headline(about: dict, sweeps: dict[str, dict[str, Sweep]]) -> Headline:
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


def _robustness(about: dict, by_threat: dict[str, Sweep]) -> Robustness:
    first = next(iter(by_threat.values()))
    told = about["models"][first.model]["threats"]
    standings = [Standing("clean", "not attacked", share(first.correct.sum(), first.n, interval=True))]
    standings += [
        Standing(
            "threat",
            words.threat(threat),
            share(sweep.robust.sum(), sweep.n, interval=True),
            verdicts.warnings(about, first.model, [threat]) > 0,
            verdicts.bracket(told[threat]["bracket"]) if "bracket" in told[threat] else None,
        )
        for threat, sweep in by_threat.items()
    ]
    if len(by_threat) > 1:
        count = int(summary.robust_to_all(by_threat).sum())
        doubtful = verdicts.warnings(about, first.model, by_threat) > 0
        label = f"all {len(by_threat)} threats"
        standings.append(Standing("all", label, share(count, first.n, interval=True), doubtful))
    return Robustness(first.model, standings)


def _attack_table(by_threat: dict[str, Sweep], configuration: dict) -> AttackTable:
    first = next(iter(by_threat.values()))
    correct = int(first.correct.sum())
    names = list(dict.fromkeys(attack for sweep in by_threat.values() for attack in sweep.attacks))
    rows = [
        AttackRow(name, _kind(by_threat, name, configuration), [_cell(s, name, correct) for s in by_threat.values()])
        for name in names
    ]
    together = [Cell(share(sweep.broken.any(axis=0).sum(), correct)) for sweep in by_threat.values()]
    return AttackTable(first.model, words.of(correct, first.n), [words.threat(t) for t in by_threat], rows, together)


def _kind(by_threat: dict[str, Sweep], attack: str, configuration: dict) -> str:
    sweep = next(sweep for sweep in by_threat.values() if attack in sweep.attacks)
    kind = summary.kind(sweep, sweep.attacks.index(attack), configuration)
    return {"gradient": "gradients", "single step": "one gradient", "noise": "random", "black box": "no gradients"}[
        kind
    ]


def _cell(sweep: Sweep, attack: str, correct: int) -> Cell:
    if attack not in sweep.attacks:
        return Cell(Share(None, words.NOTHING, "not run"))
    k = sweep.attacks.index(attack)
    broken = sweep.broken.sum(axis=1)
    strongest = bool(broken[k] == broken.max() > 0)
    return Cell(share(broken[k], correct), int(sweep.alone[k]) if len(sweep.attacks) > 1 else 0, strongest)


def _charts(
    models: list[str], sweeps: dict[str, dict[str, Sweep]], curves: dict[str, dict[str, Curve]]
) -> list[CurveChart]:
    norms = dict.fromkeys(norm for by_norm in curves.values() for norm in by_norm)
    return [_chart(norm, f"chart{k}", models, sweeps, curves) for k, norm in enumerate(norms, 1)]


def _chart(norm: str, key: str, models: list[str], sweeps: dict, curves: dict[str, dict[str, Curve]]) -> CurveChart:
    lines = [(k, curves[model][norm]) for k, model in enumerate(models) if norm in curves.get(model, {})]
    tested = [
        figures.Tested(k, words.eps(threat), words.split(threat)[1], float(sweep.robust.mean()))
        for k, model in enumerate(models)
        for threat, sweep in sweeps[model].items()
        if words.split(threat)[0] == norm and words.eps(threat) < np.inf
    ]
    rows = [_curve_row(k, curve, "0", 0.0, None) for k, curve in lines]
    for text, eps in sorted({(one.text, one.eps) for one in tested}, key=lambda pair: pair[1]):
        for k, curve in lines:
            found = [s for t, s in sweeps[curve.model].items() if words.split(t) == (norm, text)]
            rows.append(_curve_row(k, curve, text, eps, found[0] if found else None))
    said = ", ".join(f"{row.model} {row.curve.percent} at {row.eps}" for row in rows)
    return CurveChart(
        norm=words.norm(norm),
        attack=words.listed(list(dict.fromkeys(curve.attack for _, curve in lines))),
        svg=Markup(figures.curve_chart(lines, tested, key)),
        told=f"Share of all examples still standing as eps grows, {words.norm(norm)}: {said}.",
        rows=rows,
    )


def _curve_row(series: int, curve: Curve, text: str, eps: float, sweep: Sweep | None) -> CurveRow:
    suite = share(sweep.robust.sum(), sweep.n) if sweep else None
    return CurveRow(series, curve.model, text, share(int(curve.standing(eps)), curve.n), suite)


def _class_table(by_threat: dict[str, Sweep], names: Names) -> ClassTable:
    counts = summary.per_class(by_threat)
    worst = sorted(
        counts, key=lambda c: (c.robust_to_all / c.n, sum(c.robust.values()) / c.n, c.correct / c.n, c.label)
    )
    shown = worst[:WORST_CLASSES]
    hardest = min(by_threat.values(), key=lambda sweep: int(sweep.robust.sum()))
    note = f"All {len(counts):,} classes, the least robust first."
    if len(counts) == 1:
        note = "The sample holds one class only."
    elif len(shown) < len(counts):
        note = f"The {len(shown)} least robust of {len(counts):,} classes that have an example."
    if len(counts) < len(names):
        note += f" {words.of(len(names) - len(counts), len(names))} have none."
    return ClassTable(
        model=hardest.model,
        threats=[words.threat(threat) for threat in by_threat],
        taken_for=f"{hardest.attacks[hardest.strongest]}, {words.threat(hardest.threat)}",
        note=note,
        rows=[_class_row(count, hardest, names) for count in shown],
    )


def _class_row(count: ClassCount, hardest: Sweep, names: Names) -> ClassRow:
    return ClassRow(
        name=names(count.label),
        clean=share(count.correct, count.n),
        robust=[share(stand, count.n) for stand in count.robust.values()],
        to_all=share(count.robust_to_all, count.n),
        taken_for=_taken_for(hardest, count.label, names),
    )


def _taken_for(sweep: Sweep, label: int, names: Names) -> str:
    """What the strongest attack most often makes of a class, and how often."""
    broken = sweep.broken[sweep.strongest] & (sweep.labels == label)
    if not broken.any():
        return words.NOTHING
    predictions, counts = np.unique(sweep.predictions[sweep.strongest][broken], return_counts=True)
    return f"{names(int(predictions[counts.argmax()]))} ({words.of(int(counts.max()), int(broken.sum()))})"


def _gallery(audit: "Audit", names: Names) -> tuple[list[Gallery], str]:
    kept, data = audit.gallery, audit.about["data"]
    low, high = data.get("bounds") or (0.0, 1.0)
    bounds = (float(low), float(high))
    total = len(kept["id"])
    if not total:
        return [], "No example was broken, so there is none to show."
    if figures.pixels(kept["x"][0], bounds) is None:
        shape = " × ".join(map(str, kept["x"].shape[1:]))
        return [], f"The inputs are not images (shape {shape}), so there are no pictures. gallery.npz holds {total}."
    chosen = _spread(kept, min(CARDS, total))
    models = dict.fromkeys(str(kept["model"][k]) for k in chosen)
    cards = {m: [_card(kept, k, names, bounds) for k in chosen if str(kept["model"][k]) == m] for m in models}
    note = f"{len(chosen)} of the {total} examples in gallery.npz" if len(chosen) < total else f"{total} examples"
    note += ", not chosen for their looks; all adversarial inputs are in the folder adversarial."
    return [Gallery(model, cards[model]) for model in models], note


def _spread(kept: dict[str, np.ndarray], most: int) -> list[int]:
    """Which examples are shown: one of each model and threat in turn, until there are enough."""
    groups: dict[tuple[str, str], list[int]] = {}
    for k in range(len(kept["id"])):
        groups.setdefault((str(kept["model"][k]), str(kept["threat"][k])), []).append(k)
    turns = [(turn, g, k) for g, members in enumerate(groups.values()) for turn, k in enumerate(members)]
    return sorted(k for _, _, k in sorted(turns)[:most])


def _card(kept: dict[str, np.ndarray], k: int, names: Names, bounds: tuple[float, float]) -> Card:
    x, x_adv = kept["x"][k], kept["x_adv"][k]
    change, factor = figures.amplified(x, x_adv, bounds)
    clean, adversarial = names(int(kept["clean_prediction"][k])), names(int(kept["adversarial_prediction"][k]))
    sure = words.confidence(float(kept["clean_confidence"][k]))
    deceived = words.confidence(float(kept["adversarial_confidence"][k]))
    label, number = names(int(kept["label"][k])), words.number(factor)
    return Card(
        title=f"{words.threat(str(kept['threat'][k]))} · {kept['attack'][k]}",
        truth=f"example {int(kept['id'][k]):,}, truly {label}",
        pictures=[
            Picture(_png(x, bounds), f"Clean input, predicted {clean} with confidence {sure}", clean, sure),
            Picture(
                _png(change, bounds),
                f"The perturbation, multiplied by {number}; grey is no change",
                "change",
                f"× {number}",
            ),
            Picture(
                _png(x_adv, bounds),
                f"Adversarial input, predicted {adversarial} with confidence {deceived}",
                adversarial,
                deceived,
            ),
        ],
    )


def _png(x: np.ndarray, bounds: tuple[float, float]) -> str:
    image = figures.pixels(x, bounds)
    assert image is not None
    return figures.png(image)


def _noise_table(by_threat: dict[str, Sweep], configuration: dict) -> NoiseTable | None:
    rows = [row for sweep in by_threat.values() if (row := _noise_row(sweep, configuration))]
    return NoiseTable(next(iter(by_threat.values())).model, rows) if rows else None


def _noise_row(sweep: Sweep, configuration: dict) -> NoiseRow | None:
    """The best noise against the best attack that is none; None where either was not run."""
    broken, correct = sweep.broken.sum(axis=1), int(sweep.correct.sum())
    is_noise = np.array([summary.kind(sweep, k, configuration) == "noise" for k in range(len(sweep.attacks))])
    if is_noise.all() or not is_noise.any():
        return None
    noise = int(np.where(is_noise, broken, -1).argmax())
    attack = int(np.where(is_noise, -1, broken).argmax())
    few, many = int(broken[noise]), int(broken[attack])
    times = f"{many / few:.{0 if many >= 10 * few else 1}f} times as many" if few and many > few else ""
    return NoiseRow(
        words.threat(sweep.threat),
        sweep.attacks[noise],
        share(few, correct),
        sweep.attacks[attack],
        share(many, correct),
        times,
    )


def _cost_table(about: dict, by_threat: dict[str, Sweep], curves: dict[str, Curve]) -> CostTable:
    names = list(dict.fromkeys(attack for sweep in by_threat.values() for attack in sweep.attacks))
    rows = [CostRow(name, [_cost(sweep, name) for sweep in by_threat.values()]) for name in names]
    together = [
        (words.number(float(s.queries.sum(axis=0).mean())), words.number(float(s.backwards.sum(axis=0).mean())))
        for s in by_threat.values()
    ]
    said = [
        f"{curve.attack} for the {words.norm(norm)} curve: {words.number(curve.queries)} forwards and "
        f"{words.number(curve.backwards)} backwards per example."
        for norm, curve in curves.items()
    ]
    first = next(iter(by_threat.values()))
    threats = [words.threat(threat) for threat in by_threat]
    return CostTable(first.model, threats, rows, together, said, _spread_table(about["models"][first.model]))


def _spread_table(model: dict) -> SpreadTable | None:
    found = {threat: told["verdict"] for threat, told in model["threats"].items() if "verdict" in told}
    if not found:
        return None
    heads = {"median": "half of the examples", "p90": "9 of 10", "most": "all"}
    rows = [
        (words.threat(threat), [(words.number(told["queries"][q]), words.number(told["backwards"][q])) for q in heads])
        for threat, told in found.items()
    ]
    return SpreadTable(next(iter(found.values()))["attack"], list(heads.values()), rows)


def _belief_table(about: dict, name: str) -> BeliefTable | None:
    model = about["models"][name]
    found = {threat: told["verdict"] for threat, told in model["threats"].items() if "verdict" in told}
    if not found:
        return None
    first = next(iter(found.values()))
    attack = first["attack"] if first["effort"] in first["attack"] else f"{first['attack']}, effort {first['effort']}"
    return BeliefTable(name, attack, [_belief_row(threat, told, model["n"]) for threat, told in found.items()])


def _belief_row(threat: str, told: dict, n: int) -> BeliefRow:
    stages = [
        (name, ", ".join(f"{did[what]:,} {what}" for what in ("fell", "stood") if did[what]))
        for name, did in told["stages"].items()
        if did["fell"] or did["stood"]
    ]
    return BeliefRow(words.threat(threat), share(told["doubtful"], told["standing"]), stages, verdicts.final(told, n))


def _cost(sweep: Sweep, attack: str) -> tuple[str, str]:
    if attack not in sweep.attacks:
        return words.NOTHING, words.NOTHING
    k = sweep.attacks.index(attack)
    return words.number(float(sweep.queries[k].mean())), words.number(float(sweep.backwards[k].mean()))


def _passes(audit: "Audit") -> str:
    forwards = _total(audit.rows, "queries") + _total(audit.curves, "queries")
    backwards = _total(audit.rows, "backwards") + _total(audit.curves, "backwards")
    return f"{forwards:,} forward and {backwards:,} backward passes of single examples in all."


def _total(frame: pd.DataFrame, column: str) -> int:
    return int(frame[column].to_numpy().sum())


def _doubts(found: list[dict[str, Any]]) -> list[Doubt]:
    """The same sentence about several threats is said once."""
    merged: dict[tuple[str, str], list[str]] = {}
    for doubt in found:
        about = " · ".join(filter(None, [doubt["model"], doubt["threat"] and words.threat(doubt["threat"])]))
        merged.setdefault((doubt["severity"], doubt["text"]), []).append(about or "all models")
    return [Doubt(severity, list(dict.fromkeys(about)), text) for (severity, text), about in merged.items()]


def _facts(about: dict[str, Any]) -> list[tuple[str, str]]:
    configuration, data = about["configuration"], about["data"]
    classes = data.get("classes") or []
    return [
        ("data", str(configuration.get("data", ""))),
        ("examples", f"{data.get('n', 0):,}"),
        ("shape of an input", " × ".join(map(str, data.get("shape", [])))),
        ("values within", " to ".join(words.number(bound) for bound in data.get("bounds") or ())),
        ("classes", f"{len(classes):,}"),
        ("sha256 of the data", str(data.get("sha256", ""))),
        ("threats", ", ".join(configuration.get("threats", []))),
        ("seed", str(configuration.get("seed", ""))),
        ("device", str(configuration.get("device", ""))),
        ("batch size", str(configuration.get("batch_size", ""))),
    ]


def _thousands(model: dict[str, Any]) -> str:
    return f"{model['parameters']:,}" if isinstance(model.get("parameters"), int) else words.NOTHING


def _options(options: Any) -> str:
    if isinstance(options, list):
        return "(" + ", ".join(map(_options, options)) + ")"
    if not isinstance(options, dict):
        return str(options)
    rest = ", ".join(f"{name} = {_options(value)}" for name, value in options.items() if name != "class")
    return f"{options.get('class', '')}({rest})" if "class" in options else rest
