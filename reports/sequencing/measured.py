"""What is measured of a generator of sequences, what is it called, and how is it said?"""

import math

from advgan.sequences.bleu import ORDERS
from reports import words
from reports.training.measured import Measure, Measures

ENTROPY = "entropy"
TINY = 1e-6  # an error that six digits do not show


def told(name: str, measures: Measures) -> str:
    """ "3.294 ± 0.011": the standard error, where there is one, says how many digits mean anything."""
    value, error = measures[name], measures.get(f"{name}_error")
    if MEASURES[name].kind == "share":
        return MEASURES[name].said(value)
    return words.number(value) if not error or error < TINY else f"{_to(value, error)} ± {_to(error, error)}"


def beside(name: str, measures: Measures) -> str:
    """What the truth scores: the oracle itself, or real lines; empty where that is not known."""
    if f"real_{name}" in measures:
        kept = {key.removeprefix("real_"): value for key, value in measures.items() if key.startswith("real_")}
        return told(name, kept)
    if ENTROPY not in measures or name not in OF_ORACLE:
        return ""
    return _to(measures[ENTROPY], measures.get("nll_gen_error") or 0.001) if name.startswith("nll_") else "0"


def _to(value: float, error: float) -> str:
    """With the digits of an error whose first two are said."""
    digits = 1 - math.floor(math.log10(error))
    return f"{value:,.{min(max(digits, 0), 6)}f}".replace("-", "\N{MINUS SIGN}")


def _bleu(n: int) -> Measure:
    return Measure(
        f"BLEU-{n}",
        "number",
        "how far its n-grams, of 1 to so many tokens, stand in lines held out; 1: all. One good line again and again "
        "scores high, too"
        if n == ORDERS[0]
        else "",
        lambda m: f"BLEU-{n} {words.number(m[f'bleu_{n}'])}",
    )


def _self_bleu(n: int) -> Measure:
    return Measure(
        f"self-BLEU-{n}",
        "number",
        "of each line with all others as references: more than real lines have is less variety"
        if n == ORDERS[0]
        else "",
        lambda m: f"Self-BLEU-{n} {words.number(m[f'self_bleu_{n}'])}",
    )


def _distinct(n: int) -> Measure:
    what = {1: "tokens", 2: "pairs of tokens", 3: "triples of tokens"}[n]
    return Measure(
        f"distinct-{n}",
        "share",
        f"of all {what} it wrote, the different ones",
        lambda m: f"{words.share(m[f'distinct_{n}'])} of its {what} are different ones",
    )


MEASURES = {  # the foremost first: the first that a run has is its headline
    "jeffreys": Measure(
        "Jeffreys divergence",
        "number",
        "KL both ways together, in nats a token; 0 where it writes as the oracle does. To rank by",
        lambda m: f"{told('jeffreys', m)} nats a token from the oracle",
    ),
    "token_js": Measure(
        "next token's JS",
        "number",
        "Jensen–Shannon divergence of the next token's distributions, over positions and beginnings; at most ln 2 = "
        "0.693. To rank by",
        lambda m: f"The next token's Jensen–Shannon divergence is {told('token_js', m)}",
    ),
    "kl": Measure(
        "KL (oracle, generator)",
        "number",
        "in nats a token; large where it misses what the oracle writes",
        lambda m: f"KL {told('kl', m)}",
    ),
    "reverse_kl": Measure(
        "KL (generator, oracle)",
        "number",
        "in nats a token; large where it writes what the oracle does not",
        lambda m: f"Reverse KL {told('reverse_kl', m)}",
    ),
    "nll_oracle": Measure(
        "NLL under the oracle",
        "number",
        "of its sequences, in nats a token. One-sided: below the oracle's own it is less varied, not better",
        lambda m: f"NLL under the oracle {told('nll_oracle', m)}",
    ),
    "nll_gen": Measure(
        "NLL of the oracle's sequences",
        "number",
        "under the generator, in nats a token: what it cannot foresee of the truth",
        lambda m: f"NLL of the oracle's sequences {told('nll_gen', m)}",
    ),
    "js": Measure(
        "JS of whole sequences",
        "number",
        "in nats; close to ln 2 = 0.693 for all but the best, so nothing to rank by",
        lambda m: f"JS {told('js', m)}",
    ),
    "critic_gap": Measure(
        "gap of the critic",
        "number",
        "cross entropy of the trained critic beyond that of the best possible one against this generator, in nats",
        lambda m: f"The critic is {told('critic_gap', m)} nats from the best",
    ),
    "perplexity": Measure(
        "perplexity",
        "number",
        "of a token of the lines held out: among so many equally likely ones it is lost. Smaller is better",
        lambda m: f"A perplexity of {told('perplexity', m)} on lines it has not seen",
    ),
    **{f"bleu_{n}": _bleu(n) for n in ORDERS},
    **{f"self_bleu_{n}": _self_bleu(n) for n in ORDERS},
    **{f"distinct_{n}": _distinct(n) for n in (1, 2, 3)},
    "different": Measure(
        "different lines",
        "share",
        "of the lines it wrote",
        lambda m: f"{words.share(m['different'])} of its lines are different ones",
    ),
    "copied": Measure(
        "lines of the data",
        "share",
        "written word for word as they stand in the data it learnt from; short lines may be by chance",
        lambda m: f"{words.share(m['copied'])} of its lines stand in the data",
    ),
    "unknown": Measure(
        "unknown tokens",
        "share",
        "of the lines held out, left out of the perplexity",
        lambda m: f"{words.share(m['unknown'])} of the tokens held out are unknown",
    ),
}
OF_ORACLE = ("jeffreys", "token_js", "kl", "reverse_kl", "nll_oracle", "nll_gen", "js", "critic_gap")
