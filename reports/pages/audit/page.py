"""How does an audit read as one page that needs nothing else?

`contents` says what stands on the page, as plain data; templates/audit.html says how it looks.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports import reproduce, summary, words
from reports.pages import base
from reports.pages.audit.belief import BeliefTable, belief_table, doubts
from reports.pages.audit.classes import ClassTable, class_table
from reports.pages.audit.cost import CostTable, cost_table, passes
from reports.pages.audit.curves import CurveChart, charts
from reports.pages.audit.gallery import Gallery, gallery
from reports.pages.audit.headline import headline
from reports.pages.audit.noise import NoiseTable, noise_table
from reports.pages.audit.robustness import AttackTable, Robustness, attack_table, robustness
from reports.pages.audit.setup import described, facts, thousands
from reports.pages.shares import Names

if TYPE_CHECKING:
    from reports.record import Audit


@dataclass(frozen=True)
class AuditPage(base.Page):
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
    doubts: list[base.Doubt]
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
    return base.rendered("audit.html", contents(audit))


def contents(audit: "Audit") -> AuditPage:
    """Everything that stands on the page."""
    about, configuration = audit.about, audit.about["configuration"]
    sweeps, curves = summary.sweeps(audit.rows), summary.curves(audit.curves)
    classes = Names(about["data"].get("classes") or [])
    models = list(sweeps)
    shown, note = gallery(audit, classes)
    command = reproduce.command(about)
    return AuditPage(
        title=f"Robustness of {words.listed(models, 3)}",
        headline=headline(about, sweeps),
        robustness=[robustness(about, by_threat) for by_threat in sweeps.values()],
        several_attacks=any(len(s.attacks) > 1 for by_threat in sweeps.values() for s in by_threat.values()),
        attacks=[attack_table(by_threat, configuration) for by_threat in sweeps.values()],
        legend=list(enumerate(models)),
        curves=charts(models, sweeps, curves),
        classes=[class_table(by_threat, classes) for by_threat in sweeps.values()],
        gallery=shown,
        gallery_note=note,
        pixelated=base.is_tiny(about["data"].get("shape", [])),
        noise=[table for by_threat in sweeps.values() if (table := noise_table(by_threat, configuration))],
        cost=[cost_table(about, by_threat, curves.get(model, {})) for model, by_threat in sweeps.items()],
        passes=passes(audit),
        belief=[table for model in about["models"] if (table := belief_table(about, model))],
        doubts=doubts(about["doubts"]),
        models=[
            (name, str(configuration.get("models", {}).get(name, "")), thousands(model), model.get("sha256", ""))
            for name, model in about["models"].items()
        ],
        facts=facts(about),
        options=[(name, described(options)) for name, options in configuration.get("attacks", {}).items()],
        versions=[(name, str(version)) for name, version in about["versions"].items()],
        command=command or reproduce.call(about),
        is_command=command is not None,
    )
