"""Is a sequence real? Convolutions over its tokens, of several widths, each filter's largest answer anywhere."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, relu

from attacks.errors import InputError, unknown

SEQGAN = {1: 100, 2: 200, 3: 200, 4: 200, 5: 200, 6: 100, 7: 100, 8: 100, 9: 100, 10: 100, 15: 160, 20: 160}
SMALL = {1: 32, 2: 32, 3: 32, 4: 32, 5: 32}
FILTERS: dict[str, Mapping[int, int]] = {"seqgan": SEQGAN, "small": SMALL}
DEVIATION = 0.1  # of the first weights
OPEN = 2.0  # the highway begins with sigmoid(-OPEN) of its way through the layer
AT_ONCE = 2**8  # sequences, without gradients on a CPU


class Cnn(nn.Module):
    """SeqGAN's critic (arXiv 1609.05473): embedding, convolutions, maximum over time, one highway layer, two logits.

    It takes tokens [b, T] int64, or shares of tokens [b, T, V] where gradients are to go through them, and gives scores
    [b], the logits of being real. filters: how many of each width; those wider than `length` are left out.
    """

    def __init__(self, vocabulary: int, length: int, filters: Mapping[int, int], width: int = 64, seed: int = 0):
        super().__init__()
        fitting = {covered: count for covered, count in filters.items() if covered <= length}
        if not fitting:
            raise InputError(
                f"No filter is as narrow as a sequence of length {length}: {', '.join(map(str, filters))}."
            )
        self.features = sum(fitting.values())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = nn.Parameter(torch.empty(vocabulary, width).uniform_(-1, 1))
            self.convolutions = nn.ModuleList(
                nn.Conv1d(width, count, covered, bias=False) for covered, count in fitting.items()
            )
            self.bias = nn.Parameter(torch.full((self.features,), DEVIATION))
            self.gate, self.layer = (nn.Linear(self.features, self.features) for _ in range(2))
            self.end = nn.Linear(self.features, 2)
            for each in (*self.convolutions, self.end):
                nn.init.trunc_normal_(each.weight, 0, DEVIATION, -2 * DEVIATION, 2 * DEVIATION)  # type: ignore[arg-type]
            for each in (self.gate, self.layer):
                nn.init.xavier_uniform_(each.weight)
            nn.init.constant_(self.gate.bias, -OPEN)
            nn.init.constant_(self.end.bias, DEVIATION)

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """kept [b, features]: what each feature is multiplied by before the last layer; None: nothing is dropped."""
        shares = x.is_floating_point()
        embedded = (x @ self.embedding if shares else embedding(x, self.embedding)).transpose(1, 2).contiguous()
        largest = torch.cat([convolution(embedded).max(2).values for convolution in self.convolutions], 1)
        largest = relu(largest + self.bias)
        share = self.gate(largest).sigmoid()
        passed = share * relu(self.layer(largest)) + (1 - share) * largest
        logits = self.end(passed if kept is None else passed * kept)
        return logits[:, 1] - logits[:, 0]

    def scores(self, tokens: Tensor) -> Tensor:
        """[n, T] -> [n], nothing dropped, without gradients; on a CPU some at a time."""
        with torch.no_grad():
            return torch.cat([self(some) for some in tokens.split(AT_ONCE if tokens.is_cpu else len(tokens))])

    def weight(self) -> Tensor:
        """Half the sum of squares of the last layer, which SeqGAN holds small."""
        return sum(parameter.square().sum() for parameter in self.end.parameters()) / 2  # type: ignore[return-value]


def build(kind: str, vocabulary: int, length: int, seed: int = 0) -> Cnn:
    """`seqgan`: 1,720 filters of width 1 to 20 on 64 numbers a token; `small`: 160 of width 1 to 5 on 32."""
    if kind not in FILTERS:
        raise unknown("critic", kind, FILTERS)
    return Cnn(vocabulary, length, FILTERS[kind], 64 if kind == "seqgan" else 32, seed)
