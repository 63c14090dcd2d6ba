"""Audit a model of one's own: attack it on held-out digits, and read the answer from the folder that is written."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from reports import zoo
from reports.audit import audit
from reports.record import Audit
from reports.sources.data import from_arrays

FOLDER = "my-audit"


def my_model() -> nn.Module:
    """Any module that takes inputs within 0 to 1 and gives logits will do. This one learns for a second."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    x, y = zoo.training()  # [1198, 1, 8, 8] within 0 to 1, and class numbers [1198]
    for _ in range(300):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


def main() -> None:
    data = from_arrays(*zoo.held_out(), name="digits that the model has not seen")
    threats = ["linf:0.05", "linf:0.1", "l2:0.5"]
    attacks = ["fgsm", "pgd", "apgd:steps=50", "uniform_noise"]
    audit({"my_model": my_model()}, data, threats, attacks, FOLDER, examples=200, overwrite=True)

    saved = Audit.load(FOLDER)  # from here on no model is needed: everything is in the folder
    found = saved.about["models"]["my_model"]
    print(f"Right on clean inputs: {found['correct']} of {found['n']}")
    for threat, under in found["threats"].items():
        low, high = under["interval"]
        strongest = max(under["attacks"], key=lambda name: under["attacks"][name]["broken"])
        print(
            f"{threat:>9}: {under['robust']} of {found['n']} robust ({under['robust_accuracy']:.1%}, "
            f"95 % interval {low:.1%} to {high:.1%}); {strongest} broke most"
        )
    for doubt in saved.about["doubts"]:
        print(f"{doubt['severity']}: {doubt['text']}")
    print(f"The report: {saved.folder / 'report.html'}")


if __name__ == "__main__":
    main()
