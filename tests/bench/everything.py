"""What do the attacks of the catalogue leave standing all together, each with much time and every aid it can have?"""

from collections.abc import Callable

import torch
from autoattack_peer import CHUNK, mostly_wrong
from kept import Arrays, fingerprint, fingerprint_of, kept
from torch import Tensor, nn

import attacks
from attacks.card import card_of
from attacks.catalog import attack_named
from attacks.combine import Transferred
from attacks.loop import Attack
from attacks.victim import borrowed

QUERIES = 5000
ALONE = {  # the cheap ones first: each is run on what is left
    "pgd": attack_named("pgd"),
    "apgd": attack_named("apgd"),
    "fmn": attack_named("fmn"),
    "square": attack_named("square", queries=QUERIES),
    "apgd_t": attack_named("apgd_t"),
    "fab_t": attack_named("fab_t"),
    "rays": attack_named("rays", queries=QUERIES),
    "spsa": attack_named("spsa"),
    "spsa_wide": attack_named("spsa", width=0.5),
    "boundary": attack_named("boundary", queries=QUERIES),
    "hopskipjump": attack_named("hopskipjump", queries=QUERIES),
}
AIDED = ("apgd", "apgd_t")  # on each aid, the victim asked at every step


def everything(
    model: nn.Module, x: Tensor, labels: Tensor, threat: str, aids: Callable[[], dict[str, nn.Module]], passes: int = 1
) -> Arrays:
    """`clean` and `robust` [B] bool, and for each attack `fooled_NAME` [B] bool: of the rows that those before it left.

    aids, passes: of a `masking.Masked`. Each attack is kept as soon as it is done.
    """
    victim = attacks.Victim(model, passes=passes)
    with borrowed(model):
        clean = ~mostly_wrong(model, x, labels, passes)
    standing, found = clean.clone(), {}
    for name, attack in _attacks(threat, aids).items():
        at = standing.nonzero().squeeze(1)
        found[f"fooled_{name}"] = torch.zeros_like(standing)
        if len(at):
            found[f"fooled_{name}"][at] = _fooled(attack, victim, x[at], labels[at], threat, at)
        standing = standing & ~found[f"fooled_{name}"]
    return {name: rows.numpy() for name, rows in {"clean": clean, "robust": standing, **found}.items()}


def _attacks(threat: str, aids: Callable[[], dict[str, nn.Module]]) -> dict[str, Attack]:
    norm = attacks.ThreatModel.parse(threat).norm.name
    aided = {
        f"{name}_on_{aid}": attack_named("transferred", surrogate=surrogate, attack=name, every=1)
        for aid, surrogate in aids().items()
        for name in AIDED
    }
    return aided | {name: attack for name, attack in ALONE.items() if norm in card_of(attack).norms}


def _fooled(attack: Attack, victim: attacks.Victim, x: Tensor, labels: Tensor, threat: str, ids: Tensor) -> Tensor:
    key = {
        "attack": _described(attack),
        "model": fingerprint(victim.model),
        "data": fingerprint_of(x, labels, ids),
        "threat": threat,
        "passes": victim.passes,
    }

    def compute() -> Arrays:
        result = attacks.run(attack, victim, x, labels, threat, until="first", batch_size=CHUNK, ids=ids)
        return {"fooled": result.fooled.numpy()}

    return torch.from_numpy(kept("everything", key, compute)["fooled"])


def _described(attack: Attack) -> str:
    return f"{attack.attack} on {fingerprint(attack.surrogate)}" if isinstance(attack, Transferred) else repr(attack)
