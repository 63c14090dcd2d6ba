"""Robust accuracy in an evaluation loop: the count so far, with its exact 95 % interval, batch by batch."""

import torch
from scipy.stats import binomtest
from torch.utils.data import DataLoader, TensorDataset

import attacks
from reports import zoo

ATTACK = attacks.APGD(steps=50)
THREAT = attacks.linf(0.1)


def share(count: int, total: int) -> str:
    interval = binomtest(count, total).proportion_ci(method="exact")
    return f"{count} of {total} ({count / total:.1%}, {interval.low:.1%} to {interval.high:.1%})"


def main() -> None:
    model = zoo.load()["digits_robust"]
    images, labels = zoo.held_out()
    # The place of each example in the data set travels with it. Its random numbers depend on that id and the seed
    # alone, so neither the order nor the batch size has a say in what is found.
    examples = TensorDataset(torch.arange(len(images)), images, labels)
    seen = right = robust = passes = 0
    for ids, x, y in DataLoader(examples, batch_size=100, shuffle=True):
        result = attacks.run(ATTACK, model, x, y, THREAT, seed=0, ids=ids)
        seen += len(x)
        right += int((result.step != 0).sum())  # step 0: wrong before anything was changed
        robust += int((~result.fooled).sum())
        passes += int(result.queries.sum())
        print(f"robust: {share(robust, seen)}")
    print(f"right on clean inputs: {share(right, seen)}; {passes / seen:.1f} forward passes an example")


if __name__ == "__main__":
    main()
