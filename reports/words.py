"""How are counts, shares and threats said to a person?

No share is rounded to 0 % or 100 % unless it is exactly that: digits are added until it is not.
"""

from attacks.threat import radius_from

NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"}
NO_NAMES = "none"
NOTHING = "–"  # stands where there is no number: a share of nothing, a median that was not reached


def share(fraction: float | None) -> str:
    """A fraction as a percentage with one decimal, or as many as keep it from looking like 0 % or 100 %."""
    if fraction is None:
        return NOTHING
    if fraction in (0, 1):
        return f"{fraction:.0%}".replace("%", " %")
    for digits in range(1, 7):
        text = f"{100 * fraction:.{digits}f}"
        if 0 < float(text) < 100:
            return f"{text} %"
    return "> 99.999999 %" if fraction > 0.5 else "< 0.000001 %"


def percent(count: int, total: int) -> str:
    """`count` of `total` as a percentage; a dash where the total is 0."""
    return share(count / total if total else None)


def of(count: int, total: int) -> str:
    """The count beside every share: "12 of 599"."""
    return f"{count:,} of {total:,}"


def interval(low: float, high: float) -> str:
    """The two ends of an interval of shares: "1.0 – 3.5 %"."""
    return f"{share(low).removesuffix(' %')} – {share(high)}"


def points(difference: float) -> str:
    """A difference of shares in percentage points, with its sign, and never 0 unless it is."""
    digits = next((k for k in range(1, 7) if float(f"{100 * difference:.{k}f}")), 1)
    return f"{100 * difference:+.{digits}f}".replace("-", "\N{MINUS SIGN}") if difference else "0"


def chance(p: float) -> str:
    """The p of a test: "p = 0.032"; floating point makes it 0 where it is not."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


def confidence(probability: float) -> str:
    """A softmax output. Floating point makes it 0 or 1 where it is neither, so it never reads 0 % or 100 %."""
    if not 0 <= probability <= 1:
        return NOTHING
    if probability >= 0.9995:
        return "> 99.9 %"
    return "< 0.1 %" if probability < 0.0005 else f"{100 * probability:.1f} %"


def number(value: float | None) -> str:
    """A mean or a radius: three significant digits, whole numbers whole."""
    if value is None:
        return NOTHING
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """ "1 example", "3 examples"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listed(names: list[str], at_most: int = 5) -> str:
    """ "a, b and c"; a long list ends in "and 12 more"."""
    if len(names) > at_most:
        return f"{', '.join(names[:at_most])} and {len(names) - at_most:,} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else NO_NAMES


def split(threat: str) -> tuple[str, str]:
    """The norm and the radius as they were typed: "linf:8/255" gives ("linf", "8/255")."""
    norm, _, radius = threat.strip().lower().partition(":")
    return norm, radius.strip()


def eps(threat: str) -> float:
    """The radius of a threat in the units of x: "linf:8/255" gives 0.03137. ValueError where there is no number."""
    return radius_from(split(threat)[1])


def norm(name: str) -> str:
    """ "linf" is read L∞; a norm that is not ours keeps its name."""
    return NORMS.get(name, name)


def threat(text: str) -> str:
    """ "linf:8/255" is read L∞ ≤ 8/255."""
    name, radius = split(text)
    return f"{norm(name)}, without a limit" if radius == "inf" else f"{norm(name)} ≤ {radius}"


def allowance(text: str, pictures: bool) -> str:
    """What the attacker may do under a threat, for a reader who knows no norms."""
    name, radius = split(text)
    value = "pixel value" if pictures else "input value"
    if radius == "inf":
        return f"every {value} may become any other; what an attack does, its own options limit"
    said = {
        "linf": f"every {value} may change by up to {radius}",
        "l2": f"an input may be moved by up to {radius} in Euclidean distance",
        "l1": f"the changes to all {value}s may add up to {radius}",
        "l0": f"up to {radius} {value}s may be changed at will",
    }
    return said.get(name, f"the perturbation may be as large as {threat(text)}")


def duration(seconds: float) -> str:
    """ "3.2 µs", "15 ms": three significant digits at most."""
    for factor, unit in ((1e6, "µs"), (1e3, "ms")):
        if seconds * factor < 1000:
            return f"{seconds * factor:.3g} {unit}"
    return f"{number(seconds)} s"
