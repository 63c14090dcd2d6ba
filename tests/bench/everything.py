"""What do the attacks of the catalogue leave standing all together, each with much time and every aid it can have?"""

from collections.abc import Callable

import numpy as np
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
ALONE = {
    "pgd": attack_named("pgd"),
    "apgd": attack_named("apgd"),
    "apgd_t": attack_named("apgd_t"),
    "fmn": attack_named("fmn"),
    "fab_t": attack_named("fab_t"),
    "square": attack_named("square", queries=QUERIES),
    "spsa": attack_named("spsa"),
    "spsa_wide": attack_named("spsa", width=0.5),
    "rays": attack_named("rays", queries=QUERIES),
    "boundary": attack_named("boundary", queries=QUERIES),
    "hopskipjump": attack_named("hopskipjump", queries=QUERIES),
}
AIDED = ("apgd", "apgd_t")  # on each aid, the victim asked at every step


def everything(
    model: nn.Module, x: Tensor, labels: Tensor, threat: str, aids: Callable[[], dict[str, nn.Module]], passes: int = 1
) -> Arrays:
    """`clean` and `robust` [B] bool, and for each attack `fooled_NAME` [B] bool, wrong when clean included.

    aids, passes: of a `masking.Masked`. Each attack is kept as soon as it is done.
    """
    victim = attacks.Victim(model, passes=passes)
    found = {name: _fooled(attack, victim, x, labels, threat) for name, attack in _attacks(threat, aids).items()}
    with borrowed(model):
        clean = ~mostly_wrong(model, x, labels, passes).numpy()
    robust = clean & ~np.any(list(found.values()), axis=0)
    return {"clean": clean, "robust": robust, **{f"fooled_{name}": fooled for name, fooled in found.items()}}


def _attacks(threat: str, aids: Callable[[], dict[str, nn.Module]]) -> dict[str, Attack]:
    norm = attacks.ThreatModel.parse(threat).norm.name
    aided = {
        f"{name}_on_{aid}": attack_named("transferred", surrogate=surrogate, attack=name, every=1)
        for aid, surrogate in aids().items()
        for name in AIDED
    }
    return aided | {name: attack for name, attack in ALONE.items() if norm in card_of(attack).norms}


def _fooled(attack: Attack, victim: attacks.Victim, x: Tensor, labels: Tensor, threat: str) -> np.ndarray:
    key = {
        "attack": _described(attack),
        "model": fingerprint(victim.model),
        "data": fingerprint_of(x, labels),
        "threat": threat,
        "passes": victim.passes,
    }

    def compute() -> Arrays:
        result = attacks.run(attack, victim, x, labels, threat, until="first", batch_size=CHUNK)
        return {
            "fooled": result.fooled.numpy(),
            "queries": result.queries.numpy(),
            "gradients": result.backwards.numpy(),
        }

    return kept("everything", key, compute)["fooled"]


def _described(attack: Attack) -> str:
    return f"{attack.attack} on {fingerprint(attack.surrogate)}" if isinstance(attack, Transferred) else repr(attack)
