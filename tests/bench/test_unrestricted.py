"""What does a search of a digits generator's latent space find against both classifiers that come with the package?

Each is attacked with the other one for a judge; with an auxiliary classifier, a third one that the search sees.
"""

from dataclasses import replace
from pathlib import Path

import torch
from record import Book
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from advgan.fit import Run, Samples, fit
from advgan.networks.classifier import classifier
from advgan.recipes import RECIPES
from advgan.unrestricted import unrestricted
from attacks import Victim
from reports import zoo

STEPS, COUNT = 2500, 1000
PAIRS = {"digits_standard": "digits_robust", "digits_robust": "digits_standard"}  # victim: judge


def test_what_is_found_and_what_a_judge_says_of_it(book: Book, tmp_path: Path):
    x, labels = zoo.training()
    recipe = replace(RECIPES["digits"], steps=STEPS)
    run = fit(recipe, Samples(2 * x - 1, labels, 10, "digits"), tmp_path / "run")
    for victim in PAIRS:
        shares = write_down(book, run, victim)
        assert all(share["success"] > 0.5 for share in shares)


def write_down(book: Book, run: Run, victim: str) -> list[dict[str, float]]:
    """Without and with an auxiliary classifier."""
    nets, shares = zoo.load(), []
    for auxiliary in (None, learnt(*zoo.training())):
        found = unrestricted(
            run, Victim(nets[victim]), COUNT, judge=nets[PAIRS[victim]], auxiliary=auxiliary, auxiliary_weight=5.0
        )
        share = found.measures()
        shares.append(share)
        book.add(
            suite="unrestricted",
            measured=f"{victim} fooled by a sample that {PAIRS[victim]} takes for what was asked for"
            + (", with an auxiliary classifier" if auxiliary else ""),
            unit=f"share of those of {COUNT} samples that the victim takes for it at first",
            repeats=1,
            ours=share["success_agreed"],
            note=f"at first {share['stood']:.1%}; fooled {share['success']:.1%}; of these the judge agrees on "
            f"{share['agreement']:.1%}, on their starts {share['agreement_at_start']:.1%}; forwards "
            f"{share['forwards']:.1f} and gradients {share['backwards']:.1f} each; generator of {STEPS} steps",
        )
    return shares


def learnt(x: Tensor, labels: Tensor, epochs: int = 40) -> nn.Module:
    """A classifier of the library's own small architecture, trained on the digits."""
    generator, net = torch.Generator().manual_seed(5), classifier((1, 8, 8), 10, seed=7)
    opt = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(epochs):
        for places in torch.randperm(len(x), generator=generator).split(64):
            opt.zero_grad()
            cross_entropy(net(x[places]), labels[places]).backward()
            opt.step()
    return net.eval()
