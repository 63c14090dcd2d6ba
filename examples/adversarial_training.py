"""Adversarial training on saved sets: attack the model, save what was found, train on it, and again."""

import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset

import attacks
import reports.dataset
from reports import zoo
from reports.dataset.asked import Asked
from reports.sources.data import from_arrays

THREAT, ROUNDS, EPOCHS = "linf:0.1", 3, 6
ASKED = Asked.of([THREAT], ["pgd:steps=10,share=0.25"], format="npz", pairs=True)


def train(model: nn.Module, pairs: Dataset, seed: int) -> None:
    """On each adversarial image and the clean one that it came from."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    order = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(EPOCHS):
        for x, y, clean in DataLoader(pairs, batch_size=64, shuffle=True, generator=order):
            optimizer.zero_grad()
            F.cross_entropy(model(torch.cat([x, clean])), y.repeat(2)).backward()
            optimizer.step()
    model.eval()


def told(name: str, model: nn.Module) -> None:
    x, y = zoo.held_out()
    result = attacks.run("apgd", model, x, y, THREAT)
    right, robust = int((result.step != 0).sum()), int((~result.fooled).sum())
    print(f"{name}: of {len(x)} held out {right} right when clean, {robust} under APGD")


def main() -> None:
    model = copy.deepcopy(zoo.load()["digits_standard"])
    x, y = zoo.training()
    told("as it was", model)
    sets: list[Dataset] = []
    for k in range(ROUNDS):
        out = f"round-{k + 1}"
        reports.dataset.make("digits", model, from_arrays(x, y, name="digits, training part"), ASKED, out)
        sets.append(reports.dataset.open(out, clean=True))
        train(model, ConcatDataset(sets), seed=k)
        told(f"after {out}", model)


if __name__ == "__main__":
    main()
