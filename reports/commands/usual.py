"""Which threats and attacks does an audit run, where the command says little or nothing of them?"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from reports.terminal import note

if TYPE_CHECKING:
    from torch import nn

THREATS = ["linf:0.1", "linf:0.2", "l2:0.5", "l2:1.0"]  # for the digits; no other data has a customary eps
BASELINES = ["uniform_noise", "gaussian_noise"]
ATTACKS = ["fgsm", "pgd", "apgd", "square:queries=500", "verdict", *BASELINES]
BLIND = {  # for what reveals no gradients
    "SCORES": ["square:queries=500", "simba:queries=500", *BASELINES],
    "DECISION": ["hopskipjump:queries=500", "rays:queries=500", *BASELINES],
}


class Effort(StrEnum):
    """Of the attack `verdict`."""

    QUICK = "quick"
    STANDARD = "standard"
    EXHAUSTIVE = "exhaustive"


def threats_for(spec: str) -> list[str]:
    from attacks.errors import InputError

    if spec != "digits":
        raise InputError(f"--data {spec} needs --threat, which says what the attacker may do, say --threat linf:8/255.")
    return THREATS


def attacks_named(attacks: list[str], effort: Effort | None) -> list[str]:
    """The attacks that --attack and --effort name; none where neither was given."""
    from attacks.errors import InputError

    if effort is None:
        return attacks
    twice = [text for text in attacks if text.partition(":")[0].strip() == "verdict"]
    if twice:
        raise InputError(f"--effort {effort} runs verdict, and so does --attack {twice[0]}. Give one of the two.")
    return [*attacks, f"verdict:effort={effort}"] if attacks else [f"verdict:effort={effort}", *BASELINES]


def attacks_for(models: "Mapping[str, nn.Module]", shape: tuple[int, ...], threats: list[str]) -> list[str]:
    """The usual attacks for what the models reveal, less those that are not made for such inputs or norms, as is told.

    Of what one model reveals and another does not the audit itself takes care.
    """
    from attacks import card_of
    from reports.options import attack_from_text
    from reports.sources.told import access_of

    usual = dict.fromkeys(name for model in models.values() for name in BLIND.get(access_of(model).name, ATTACKS))
    norms = {text.strip().lower().partition(":")[0] for text in threats}
    cards = {text: card_of(attack_from_text(text)) for text in usual}
    unfit = {text: not norms <= set(card.norms) or (card.images and len(shape) != 3) for text, card in cards.items()}
    left_out = [text for text in usual if unfit[text]]
    if left_out:
        note(f"{' and '.join(left_out)} left out, not made for such inputs or threats: {', '.join(threats)}.")
    return [text for text in usual if text not in left_out]
