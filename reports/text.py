"""How does an audit read on a terminal, at 80 columns and at 120?"""

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reports import verdicts, words

if TYPE_CHECKING:
    from reports.record import Audit


SEVERITIES = {"fatal": "bold red", "warning": "bold yellow", "note": "bold"}


def table(audit: "Audit") -> RenderableType:
    """Everything that is worth a look before the page is opened; for `rich.console.Console().print`."""
    models = audit.about["models"]
    parts: list[RenderableType] = [Text(), headline(audit), Text(), _title("How robust"), robustness(audit)]
    if _has_belief(audit):
        parts += [_title("How far to believe it"), belief(audit)]
    for name in models:
        parts += [_title(name), attacks(audit, name)]
    parts += [Text(_legend(audit), style="dim")]
    if audit.about["doubts"]:
        parts += [Text(), doubts(audit)]
    return Group(*parts, Text())


def headline(audit: "Audit") -> Text:
    """The worst of it, in a sentence."""
    name, threat, found, model = min(
        (
            (name, threat, found, model)
            for name, model in audit.about["models"].items()
            for threat, found in model["threats"].items()
        ),
        key=lambda each: each[2]["robust"],
    )
    text = Text("Under attack, ", overflow="fold").append(name, style="bold").append(" gets ")
    text.append(words.of(found["robust"], model["n"]), style="bold red").append(" right ")
    text.append(f"({words.share(found['robust_accuracy'])}, {words.threat(threat)}); unattacked ")
    text.append(f"{words.of(model['correct'], model['n'])}.")
    warnings = verdicts.warnings(audit.about, name, [threat])
    return text.append(f" {verdicts.speaking_against(warnings)}", style=SEVERITIES["warning"]) if warnings else text


def robustness(audit: "Audit") -> Table:
    """Model by threat: the worst case over all attacks, its interval, and the attack that broke most."""
    out = _table()
    out.add_column("model and threat", overflow="fold", ratio=3, min_width=12)
    out.add_column("correct", justify="right", no_wrap=True)
    out.add_column("count", justify="right", no_wrap=True)
    out.add_column("95 % interval", justify="right", no_wrap=True)
    out.add_column("broke most", overflow="fold", ratio=2)
    for name, model in audit.about["models"].items():
        clean = [words.share(model["clean_accuracy"]), words.of(model["correct"], model["n"])]
        out.add_row(Text(name, style="bold"), *clean, words.interval(*model["clean_interval"]), _dim("not attacked"))
        for threat, found in model["threats"].items():
            doubtful = verdicts.warnings(audit.about, name, [threat]) > 0
            numbers = _standing(found, model["n"], doubtful)
            out.add_row(Text(f"  {words.threat(threat)}"), *numbers, _strongest(found["attacks"]))
        if len(model["threats"]) > 1:
            doubtful = verdicts.warnings(audit.about, name, model["threats"]) > 0
            out.add_row(Text("  all of them"), *_standing(model["robust_to_all"], model["n"], doubtful), Text())
        out.add_section()
    return out


def belief(audit: "Audit") -> Table:
    """Model by threat: the bracket, and of the verdict what stands with doubts and what its last passes still broke."""
    out = _table()
    out.add_column("model and threat", overflow="fold", ratio=1, min_width=12)
    models, bracketed = audit.about["models"], _is_bracketed(audit)
    for column in (*(["bracket", "of first"] if bracketed else []), "doubtful", "last half", "last tenth"):
        out.add_column(column, justify="right", no_wrap=True)
    for name, model in models.items():
        out.add_row(Text(name, style="bold"))
        for threat, told in model["threats"].items():
            bracket = [Text(each) for each in _bracket(told.get("bracket"))] if bracketed else []
            out.add_row(Text(f"  {words.threat(threat)}"), *bracket, *_verdict(told.get("verdict")))
        out.add_section()
    return out


def attacks(audit: "Audit", name: str) -> Table:
    """One model, attack by attack: what it left standing, what it broke, what it cost."""
    model = audit.about["models"][name]
    seconds = {(m, t, a): s for m, t, a, s in audit.timings[["model", "threat", "attack", "seconds"]].to_numpy()}
    out = _table()
    out.add_column("attack", overflow="fold", ratio=1, min_width=12)
    for column in ("robust", "broken", "of correct", "forwards", "backwards", "seconds"):
        out.add_column(column, justify="right", no_wrap=True)
    for threat, found in model["threats"].items():
        out.add_row(Text(words.threat(threat), style="bold"))
        most = max(attack["broken"] for attack in found["attacks"].values())
        for attack, did in found["attacks"].items():
            style = "bold" if did["broken"] == most > 0 else ""
            out.add_row(
                Text(f"  {attack}", style=style),
                Text(words.percent(did["robust"], model["n"]), style=style),
                Text(words.of(did["broken"], model["correct"]), style=style),
                Text(words.percent(did["broken"], model["correct"]), style=style),
                words.number(did["queries"]),
                words.number(did["backwards"]),
                _seconds(seconds.get((name, threat, attack))),
            )
    if model["curves"]:
        out.add_row(Text("curves", style="bold"))
    for norm, curve in model["curves"].items():
        spent = sum(s for (m, t, _), s in seconds.items() if (m, t) == (name, f"{norm}:inf"))
        cost = [words.number(curve["queries"]), words.number(curve["backwards"]), _seconds(spent)]
        out.add_row(Text(f"  {curve['attack']}, {words.norm(norm)}"), "", "", "", *cost)
    return out


def doubts(audit: "Audit") -> RenderableType:
    """What speaks against believing it. The same sentence about several threats is said once."""
    merged: dict[tuple[str, str], list[str]] = {}
    for doubt in audit.about["doubts"]:
        about = " ".join(filter(None, [doubt["model"], doubt["threat"] and words.threat(doubt["threat"])]))
        merged.setdefault((doubt["severity"], doubt["text"]), []).append(about)
    parts: list[RenderableType] = [Text("What to doubt", style="bold")]
    for (severity, text), about in merged.items():
        line = Text(f"{severity}: ", style=SEVERITIES[severity], overflow="fold")
        scope = ", ".join(filter(None, dict.fromkeys(about)))
        line.append(f"{scope}: " if scope else "", style="not bold dim").append(text, style="not bold default")
        parts.append(Padding(line, (0, 0, 0, 2)))
    return Group(*parts)


def _has_belief(audit: "Audit") -> bool:
    threats = [told for model in audit.about["models"].values() for told in model["threats"].values()]
    return any(told.keys() & {"verdict", "bracket"} for told in threats)


def _is_bracketed(audit: "Audit") -> bool:
    return any("bracket" in told for model in audit.about["models"].values() for told in model["threats"].values())


def _title(text: str) -> Text:
    # Text, not a string: a model's name may hold what rich would read as markup.
    return Text(f" {text}", style="bold underline")


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False, padding=(0, 1), collapse_padding=True)


def _standing(found: dict, n: int, doubtful: bool) -> list[Text]:
    share = Text("! " if doubtful else "", style=SEVERITIES["warning"])
    share.append(words.share(found["robust_accuracy"]), style="not bold default")
    return [share, Text(words.of(found["robust"], n)), Text(words.interval(*found["interval"]))]


def _bracket(ends: dict | None) -> list[str]:
    return [verdicts.bracket(ends)[0], f"{ends['n_tried']:,}"] if ends else [words.NOTHING] * 2


def _verdict(told: dict | None) -> list[str]:
    if told is None:
        return [words.NOTHING] * 3
    return [
        words.of(told["doubtful"], told["standing"]),
        *(f"{told['final'][name]['fell']:,}" for name in verdicts.LAST),
    ]


def _strongest(attacks: dict[str, dict]) -> Text:
    name, most = max(attacks.items(), key=lambda item: item[1]["broken"])
    return Text(f"{name} ({most['broken']:,})") if most["broken"] else _dim("nothing broke")


def _seconds(value: float | None) -> str:
    if value is None:
        return words.NOTHING
    return "< 0.1" if 0 < value < 0.05 else f"{value:,.1f}"


def _dim(text: str) -> Text:
    return Text(text, style="dim")


def _legend(audit: "Audit") -> str:
    names = audit.timings[["model", "threat", "attack"]].to_numpy()
    whole = audit.timings["seconds"].to_numpy()[(names == "").all(axis=1)]
    bracket = "Bracket: shares certified and left standing, of the first examples. " if _is_bracketed(audit) else ""
    passes = "Last half, last tenth: what these of the verdict's passes still broke. "
    belief = f"{bracket}Doubtful: of those that stand. {passes}"
    return (
        "! marks a number that a warning concerns, see What to doubt. "
        + (belief if _has_belief(audit) else "")
        + "Correct and robust: of all examples, in the worst case over attacks. Broken: of the initially correct ones. "
        + f"Forwards, backwards: means per example. {_seconds(float(whole.sum()))} seconds in all."
    )
