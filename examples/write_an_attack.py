"""A new attack in one file: options in a frozen dataclass, the search in one method. It runs wherever `pgd` does."""

import math
from dataclasses import dataclass

import attacks
from attacks import losses
from attacks.loop import Search
from attacks.rows import Rows
from attacks.victim import decision, gradient
from reports import zoo


@dataclass(frozen=True)
class CosineAscent:
    """Climb the margin by steps that fall from `first` times eps to nothing along half a cosine."""

    steps: int = 40
    first: float = 1.0

    def search(self, rows: Rows) -> Search:
        # What belongs to an example lives on `rows`: at each yield the loop may drop the examples that are done.
        rows.x_adv = rows.threat.reach(rows.normal(*rows.x.shape[1:]))
        for step in range(self.steps):
            answer = yield gradient(rows.x_adv, losses.margin)
            share = self.first * (1 + math.cos(math.pi * step / self.steps)) / 2
            rows.x_adv = rows.threat.step(rows.x_adv, answer.grad(), rows.threat.radius * share)
        yield decision(rows.x_adv)  # the last candidate is looked at, too; whether it counts is not ours to say


def main() -> None:
    model = zoo.load()["digits_robust"]
    images, labels = zoo.held_out()
    contenders = {
        "pgd": attacks.pgd(steps=40),
        "pgd, margin": attacks.pgd(steps=40, loss="margin"),
        "cosine ascent": CosineAscent(steps=40),
    }
    print(f"{'':>14} {'robust':>10} {'forwards':>9} {'backwards':>9}   (means per example)")
    for name, attack in contenders.items():
        result = attacks.run(attack, model, images, labels, "linf:0.15", batch_size=256)
        robust = f"{int((~result.fooled).sum())} of {len(labels)}"
        queries, backwards = result.queries.double().mean(), result.backwards.double().mean()
        print(f"{name:>14} {robust:>10} {queries:>9.1f} {backwards:>9.1f}")


if __name__ == "__main__":
    main()
