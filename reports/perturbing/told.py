"""How is it said what a perturber does, what that means, and what it does not mean?"""

import shlex

from advgan.networks.perturber import FEATURES
from reports import words
from reports.pages.base import Doubt
from reports.pages.shares import share
from reports.training.saved import SavedRun

NAMES = {
    "generator": "this generator",
    "fgsm": "FGSM",
    "pgd": "PGD-20",
    "uniform_noise": "uniform noise",
    "gaussian_noise": "Gaussian noise",
    "as_long": "noise as long",
    "noise": "noise",
}
NOISES = ("uniform_noise", "gaussian_noise", "as_long")
TRANSFERRED = {
    "generator": "trained on the first model",
    "pgd": "20 steps on the first model's gradients",
    "noise": "Gaussian, as large as the threat allows",
}
THROUGH = {"success": "fooled", "success_8bit": "fooled, on the 8-bit grid"}
FEW, NOISY, POOR = 100, 0.1, 0.5
KINDS = {"image": "", "universal": "one perturbation for all inputs", "per_class": "one perturbation for each class"}


def victim(run: SavedRun) -> str:
    return words.listed(list(run.about.get("victims", {})), 3)


def first(run: SavedRun) -> str:
    """The model that success is measured on."""
    return next(iter(run.about.get("victims", {})), "the model")


def threat(run: SavedRun) -> str:
    return str(run.config.get("threat", ""))


def reads(run: SavedRun) -> bool:
    """Whether it is shown a layer's output, and not the input."""
    return bool(run.config.get("network") == FEATURES)


def goal(run: SavedRun) -> str:
    """Of a targeted run the class; "any" where it is told which; empty for any wrong one."""
    target = run.config.get("target")
    if target is None or target == "any":
        return str(target or "")
    names = run.about.get("data", {}).get("classes") or []
    return str(names[target]) if target < len(names) else str(target)


def counted(run: SavedRun) -> tuple[int, int] | None:
    """How many were fooled, of how many; None where it was not found out."""
    rows = run.about.get("results", {}).get("compared")
    return (rows[0]["fooled"], rows[0]["of"]) if rows else None


def title(run: SavedRun, fooled: int, of: int) -> str:
    part, name = words.percent(fooled, of), first(run)
    if not goal(run):
        return f"{name} is fooled on {part} of what it gets right."
    what = "the class asked for" if goal(run) == "any" else goal(run)
    return f"{name} takes {part} of what it gets right for {what}."


def what(run: SavedRun) -> str:
    """What was trained, in a sentence."""
    data, pictures = run.about.get("data", {}), len(run.shape) == 3
    kind = KINDS.get(str(run.config.get("kind")), "")
    made = f"It makes {kind}" if kind else "It makes an adversarial example in one pass, without a gradient"
    made += f", of what the layer {run.config['layer']} of {first(run)} makes of the input" if reads(run) else ""
    return (
        f"A generator of perturbations, trained on {data.get('training', 0):,} examples of {data.get('name', '')} "
        f"against {victim(run)}. {made}; {words.allowance(threat(run), pictures)} ({words.threat(threat(run))}; values "
        f"run from {words.number(run.config.get('low', 0.0))} to {words.number(run.config.get('high', 1.0))})."
    )


def findings(run: SavedRun) -> list[str]:
    """What it did to the examples held out, beside what noise did."""
    results = run.about["results"]
    own, noise = results["compared"][0], results["compared"][-1]
    found = share(own["fooled"], own["of"], interval=True)
    said = f"Fooled are {found.count} examples held out that count (95 % interval {found.interval})."
    if noise["name"] in NOISES:
        none = "none" if not noise["fooled"] else f"{noise['fooled']:,}"
        said += f" Noise as long fools {none} of them."
    return [said]


def ratio(alone: dict[str, float]) -> float:
    """How many times as long 20 full steps of PGD take as the generator's pass."""
    return alone["pgd"] / alone["generator"]


def meant(run: SavedRun, name: str) -> str:
    """What an attack of the comparison did."""
    eps = words.threat(threat(run))
    return {
        "generator": f"one pass of its own{', a look into the model' if reads(run) else ''}, and no gradient",
        "fgsm": f"one gradient, {eps}",
        "pgd": f"20 gradients, {eps}",
        "uniform_noise": f"a random direction, taken to {eps}",
        "gaussian_noise": f"a random direction, taken to {eps}",
        "as_long": "Gaussian, for each example of the Euclidean length of this generator's perturbation",
    }[name]


def meaning(run: SavedRun) -> list[str]:
    """What the numbers mean and what they do not, in plain words."""
    results, name = run.about.get("results", {}), first(run)
    if not results.get("compared"):
        return []
    clean, of = results["clean"], results["compared"][0]["of"]
    pgd = next((row for row in results["compared"] if row["name"] == "pgd"), None)
    said = [
        f"Counted are {words.of(of, clean['of'])} examples: held out from training, right when untouched"
        + (f", and not of class {goal(run)} already." if goal(run) not in ("", "any") else "."),
        f"Each adversarial example was measured in float64 by the loop that runs all attacks: it lies within "
        f"{words.threat(threat(run))} and within the bounds, with no slack. What lies outside is not counted.",
    ]
    if pgd:
        stands = "" if pgd["fooled"] <= results["compared"][0]["fooled"] else ", which finds more"
        said.append(
            f"It does not say how robust {name} is. A generator is one attack among many; PGD-20 fools "
            f"{words.percent(pgd['fooled'], pgd['of'])}{stands}. An audit with several attacks says more."
        )
    said += restrained(run)
    said += [
        "It holds for inputs like these and for this model. What other models make of the same perturbations stands "
        "under Transfer, where others were named.",
        "Whether people would notice was not asked. Eps bounds how far each input is moved, and no more.",
    ]
    return said


def restrained(run: SavedRun) -> list[str]:
    """What else it was trained for than to fool."""
    goals = {"gan_weight": "to look untouched to a critic", "hinge_weight": "to be short"}
    asked = [name for name in goals if run.config.get(name)]
    if not asked:
        return []
    return [
        f"It was also trained {' and '.join(goals[name] for name in asked)} "
        f"({', '.join(f'{name} {words.number(run.config[name])}' for name in asked)}). For strength, "
        "--gan-weight 0 --hinge-weight 0 asks for nothing but to fool."
    ]


def doubts(run: SavedRun) -> list[Doubt]:
    """What speaks against believing the page: what training noticed, and what the counts give rise to."""
    found = [Doubt("warning", [], text) for text in run.warned]
    results = run.about.get("results", {})
    clean, rows = results.get("clean"), results.get("compared") or []
    if clean and clean["correct"] < POOR * clean["of"]:
        text = (
            f"{first(run)} gets only {words.of(clean['correct'], clean['of'])} of the examples held out right when "
            "they are untouched. Check labels, scaling and weights: advgan doctor."
        )
        found.append(Doubt("warning", [], text))
    if clean and not rows:
        found.append(Doubt("warning", [], "No example held out counts, so there is no success to measure."))
    if rows and rows[0]["of"] < FEW:
        text = f"Only {words.plural(rows[0]['of'], 'example')} count. Hold out at least {FEW}, better 1,000."
        found.append(Doubt("note", [], text))
    for row in rows:
        if row["name"] in NOISES and row["fooled"] > NOISY * row["of"]:
            text = (
                f"{NAMES[row['name']].capitalize()} alone fools {words.of(row['fooled'], row['of'])}: at this size an "
                "input may be changed beyond recognition, and being fooled says little. Take a smaller eps."
            )
            found.append(Doubt("warning", [], text))
    return found


def warned(run: SavedRun) -> str:
    count = sum(doubt.severity == "warning" for doubt in doubts(run))
    return words.plural(count, "warning") if count else ""


def audit(run: SavedRun) -> str:
    """The command that runs it as an attack, beside one with gradients and noise."""
    asked = run.about.get("asked", {})
    lines = ["advgan audit", *(f"--model {shlex.quote(spec)}" for spec in asked.get("model", []))]
    lines += [f"--weights {shlex.quote(asked['weights'])}"] if asked.get("weights") else []
    lines += [f"--data {shlex.quote(str(asked.get('data', '')))}", f"--threat {shlex.quote(threat(run))}"]
    lines += [f"--attack {shlex.quote(f'generated:{run.folder}')}", "--attack apgd", "--attack uniform_noise"]
    return " \\\n  ".join(lines)
