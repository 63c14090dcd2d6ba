"""May two audits be compared, and what differs between them beside the models?"""

from typing import TYPE_CHECKING, Any

from attacks.errors import InputError
from reports import words

if TYPE_CHECKING:
    from reports.record import Audit


def check(a: "Audit", b: "Audit") -> None:
    """InputError, which says how, where their examples or their threats differ."""
    differing = [*_data(a.about["data"], b.about["data"]), *_threats(a.about, b.about)]
    if differing:
        raise InputError(
            f"The audits {a.folder} (A) and {b.folder} (B) cannot be compared example by example: "
            f"{'; '.join(differing)}. Audit both on the same data under the same threats."
        )


def meant(threat: str) -> tuple[str, float]:
    """Norm and eps, by which threats are the same however they were typed."""
    return words.split(threat)[0], words.eps(threat)


def _data(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Every way in which the examples differ; nothing where they are the same."""
    if a.get("n") != b.get("n"):
        return [f"A has {words.plural(a['n'], 'example')}, B {b['n']:,}"]
    if a.get("shape") != b.get("shape"):
        return [f"an input of A is {_shape(a)}, of B {_shape(b)}"]
    if a.get("sha256") != b.get("sha256"):
        return [f"their examples differ (sha256 {str(a.get('sha256'))[:12]} in A, {str(b.get('sha256'))[:12]} in B)"]
    return []


def _shape(data: dict[str, Any]) -> str:
    return " × ".join(map(str, data.get("shape", [])))


def _threats(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    asked = [{meant(t): words.threat(t) for model in x["models"].values() for t in model["threats"]} for x in (a, b)]
    alone = [[text for key, text in asked[k].items() if key not in asked[1 - k]] for k in range(2)]
    if not any(alone):
        return []
    said = [f"{words.listed(only)} in {side} alone" for only, side in zip(alone, "AB", strict=True) if only]
    return [f"their threats differ ({', '.join(said)})"]


def paired_models(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """What two models are called together -> the model in A, in B. InputError where none is to be paired."""
    first, second = list(a["models"]), list(b["models"])
    if len(first) == len(second) == 1:
        name = first[0] if first == second else f"{first[0]} and {second[0]}"
        return {name: (first[0], second[0])}
    common = [name for name in first if name in second]
    if not common:
        raise InputError(
            f"The audits have no model in common: A has {words.listed(first)}, B {words.listed(second)}. "
            "Compare audits of one model each, or of models of the same names."
        )
    return {name: (name, name) for name in common}


def warnings(a: dict[str, Any], b: dict[str, Any], pairs: dict[str, tuple[str, str]]) -> list[str]:
    """Whatever differs between the audits beside the models."""
    told = a["configuration"], b["configuration"]
    found = [*_attacks(told[0].get("attacks", {}), told[1].get("attacks", {}))]
    found += [
        f"The {name.replace('_', ' ')} differs: {told[0].get(name)} in A, {told[1].get(name)} in B."
        for name in ("seed", "device")
        if told[0].get(name) != told[1].get(name)
    ]
    found += [
        f"The version of {name} differs: {a['versions'].get(name, 'unknown')} in A, "
        f"{b['versions'].get(name, 'unknown')} in B."
        for name in dict.fromkeys([*a["versions"], *b["versions"]])
        if a["versions"].get(name) != b["versions"].get(name)
    ]
    if a["data"].get("classes") != b["data"].get("classes"):
        found.append("The classes are named otherwise in B; this page has the names of A.")
    return found + _left_out(a, b, pairs)


def _attacks(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    alone = [[name for name in x if name not in y] for x, y in ((a, b), (b, a))]
    said = [
        f"{words.listed(names)} {'was' if len(names) == 1 else 'were'} run in {side} alone: robust accuracy is over "
        "all attacks, so the other audit may stand better for want of one."
        for names, side in zip(alone, "AB", strict=True)
        if names
    ]
    other = [name for name in a if name in b and a[name] != b[name]]
    return said + ([f"{words.listed(other)} had other options in B."] if other else [])


def _left_out(a: dict[str, Any], b: dict[str, Any], pairs: dict[str, tuple[str, str]]) -> list[str]:
    said = []
    for about, side, k in ((a, "A", 0), (b, "B", 1)):
        alone = [name for name in about["models"] if name not in [pair[k] for pair in pairs.values()]]
        said += [f"{words.listed(alone)} in {side} alone: left out here."] if alone else []
    return said
