"""How is it said what a generator of sequences is, what its numbers mean, and what speaks against them?"""

import math
from collections.abc import Sequence
from typing import Any

from reports import words
from reports.pages.base import Doubt
from reports.sequencing.measured import MEASURES
from reports.training.saved import SavedRun

SURE = 3  # standard errors
WORSE = 1.05  # times the least perplexity
COLLAPSED, COPIED, UNKNOWN = 0.5, 0.5, 0.1


def is_text(run: SavedRun) -> bool:
    return run.about.get("data", {}).get("kind") in ("words", "characters")


def named(run: SavedRun) -> str:
    name = str(run.about.get("data", {}).get("name", "sequences"))
    return "a small oracle" if name == "oracle" else name


def foremost(run: SavedRun) -> list[str]:
    """The measures that the run has, the foremost first."""
    return [name for name in MEASURES if name in run.measures]


def is_finished(run: SavedRun) -> bool:
    return run.step >= run.config.get("steps", run.step) and bool(run.measures)


def title(run: SavedRun) -> str:
    if not is_finished(run):
        return f"A generator of {_things(run)}, unfinished"
    return MEASURES[foremost(run)[0]].headline(run.measures)


def what(run: SavedRun) -> str:
    """What was trained, in a sentence."""
    data = run.about.get("data", {})
    model = {"lstm": "An LSTM", "memory": "A relational memory"}.get(
        run.config.get("model", {}).get("kind", ""), "A net"
    )
    by = {
        "likelihood": "by maximum likelihood",
        "policy": "by maximum likelihood and then against a critic, by policy gradient (SeqGAN)",
        "gumbel": "by maximum likelihood and then against a critic, through Gumbel-softmax",
    }.get(str(run.config.get("method")), "")
    if run.config.get("start"):
        by = by.replace("by maximum likelihood and then", "from another run's generator on,")
    return f"{model}, trained {by}, on {data.get('training', 0):,} {_things(run)} of {named(run)}."


def stopped(run: SavedRun) -> str:
    """A sentence, or nothing of a finished run."""
    return run.stopped or ("" if run.measures else "It was stopped before it was measured.")


def _things(run: SavedRun) -> str:
    return "lines" if is_text(run) else "sequences"


def before_game(run: SavedRun) -> dict[str, Any]:
    """The row of the history from when maximum likelihood had ended and the game had not begun; empty without one."""
    return next((row for row in run.history if row["step"] == game_from(run.config)), {})


def game_from(config: dict[str, Any]) -> int | None:
    """The step after which the generator plays; None without a game."""
    if config.get("method") == "likelihood":
        return None
    return _epochs(config) + config.get("critic_first", 0)


def _epochs(config: dict[str, Any]) -> int:
    """Of maximum likelihood before a game."""
    return 0 if config.get("start") else config.get("epochs", 0)


def stages(run: SavedRun) -> str:
    """What the steps are."""
    if game_from(run.config) is None:
        return f"A step is a batch of {run.config.get('batch', 0):,}."
    epochs, first = _epochs(run.config), run.config.get("critic_first", 0)
    said = [f"Steps to {epochs:,} are epochs of maximum likelihood"] if epochs else []
    said += [f"{'those to' if said else 'Steps to'} {epochs + first:,} the critic's first lessons"] if first else []
    said += ["further ones rounds of the game"] if said else ["A step is a round of the game"]
    return ", ".join(said) + "."


def meaning(run: SavedRun) -> list[str]:
    return _of_text(run) if is_text(run) else _of_oracle(run)


def _of_oracle(run: SavedRun) -> list[str]:
    entropy = words.number(run.measures.get("entropy"))
    return [
        "The oracle is a network whose probability of every sequence is known, and so is the generator's. The "
        "divergences are therefore no critic's guess: they are means of exact log-likelihoods over sequences, with "
        "standard errors.",
        f"NLL under the oracle, the measure of most papers, is one-sided: the oracle itself scores {entropy}, and a "
        "generator that repeats the likeliest sequence scores far less. Less than the oracle's own is collapse. It "
        "counts what is written that should not be, never what is missing.",
        "NLL of the oracle's sequences counts what is missing. Each of the two, less the entropy of the one that wrote "
        "the sequences, is a KL divergence. Their sum, the Jeffreys divergence, is what to rank by; so is the next "
        "token's JS.",
        "The same oracle and the same length are needed to compare two runs.",
    ]


def _of_text(run: SavedRun) -> list[str]:
    data = run.about.get("data", {})
    token = "word" if data.get("kind") == "words" else "character"
    return [
        f"A token is a {token}, or the end of a line. Perplexity is taken on {data.get('held_out', 0):,} lines held "
        "out; it is the one number here that neither copies nor one line repeated can better. Guessing evenly scores "
        f"{data.get('vocabulary', 0):,}.",
        "BLEU says how far what it writes is made of pieces of real lines, self-BLEU and distinct-n how varied it is. "
        "Each can be had at the other's cost: compare runs where the other is equal, with the same number of lines.",
        "“Real” are lines of the training data under the same measures, as many where there are.",
    ]


def warnings(
    config: dict[str, Any], history: Sequence[dict[str, Any]], measures: dict[str, float]
) -> list[dict[str, Any]]:
    """What a finished run gives reason to doubt: "kind", "step", "what", "remedy"."""
    found = [*_risen(history, game_from(config)), *_collapsed(measures), *_of_lines(measures)]
    return [{"kind": kind, "step": history[-1]["step"], "what": said, "remedy": remedy} for kind, said, remedy in found]


Said = tuple[str, str, str]  # kind, what, remedy


def _risen(history: Sequence[dict[str, Any]], game: int | None) -> list[Said]:
    """Was what it knows of the truth better before?"""
    name = "perplexity" if any("perplexity" in row for row in history) else "kl"
    called = {"perplexity": "Perplexity on lines held out", "kl": "KL (oracle, generator)"}[name]
    rows = [row for row in history if name in row]
    if not rows:
        return []
    least, last = min(rows, key=lambda row: row[name]), rows[-1]
    doubt = SURE * math.hypot(last.get("kl_error", 0), least.get("kl_error", 0))
    if last[name] <= (WORSE * least[name] if name == "perplexity" else least[name] + doubt):
        return []
    said = f"{called} was least at step {least['step']:,} ({words.number(least[name])}) and has risen since to "
    said += f"{words.number(last[name])}: "
    if game is not None and least["step"] <= game:
        return [("worse", f"{said}the game has made it miss more of the truth.", "A smaller --lr, or fewer --rounds.")]
    if game is not None:
        return [("worse", f"{said}it narrows down.", "Fewer --rounds, or a smaller --lr.")]
    remedy = "Fewer --epochs, more data, or a smaller --hidden."
    return [("learnt_by_heart", f"{said}it learns its data by heart.", remedy)]


def _collapsed(measures: dict[str, float]) -> list[Said]:
    if "entropy" in measures:
        own, entropy = measures["nll_oracle"], measures["entropy"]
        if own + SURE * measures["nll_oracle_error"] < entropy:
            said = (
                f"NLL under the oracle is {words.number(own)}, less than the oracle's own {words.number(entropy)}: it "
                "writes too little else than the likeliest."
            )
            return [("collapse", said, "Look at NLL of the oracle's sequences, and rank by the Jeffreys divergence.")]
    real = measures.get("real_different")
    if real is not None and measures["different"] < COLLAPSED * real:
        own = words.share(measures["different"])
        said = f"Only {own} of its lines are different ones; of real lines {words.share(real)}."
        return [("collapse", said, "Fewer rounds, a smaller --lr, or --method likelihood.")]
    return []


def _of_lines(measures: dict[str, float]) -> list[Said]:
    found = []
    if measures.get("copied", 0) > COPIED:
        said = f"{words.share(measures['copied'])} of its lines stand word for word in the data it learnt from."
        found.append(("copies", said, "Fewer --epochs or a smaller --hidden, unless the lines are short."))
    if measures.get("unknown", 0) > UNKNOWN:
        share = words.share(measures["unknown"])
        said = f"{share} of the tokens held out are unknown, and the perplexity leaves them out."
        found.append(("unknown", said, "A larger --vocabulary-size, more text, or --vocabulary characters."))
    return found


def doubts(run: SavedRun) -> list[Doubt]:
    return [Doubt("warning", [], said) for said in run.warned]
