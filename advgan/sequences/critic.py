"""Is a sequence real? Convolutions over its tokens, of several widths, each filter's largest answer anywhere."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, embedding, pad, relu

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

    def __init__(self, vocabulary: int, length: int, filters: Mapping[int, int], embedding: int = 64, seed: int = 0):
        super().__init__()
        self.counts = {width: count for width, count in filters.items() if width <= length}
        if not self.counts:
            raise InputError(
                f"No filter is as narrow as a sequence of length {length}: {', '.join(map(str, filters))}."
            )
        self.features, widest = sum(self.counts.values()), max(self.counts)
        widths = torch.tensor([width for width, count in self.counts.items() for _ in range(count)])
        self.register_buffer("used", torch.arange(widest) < widths[:, None], persistent=False)  # [features, widest]
        self.register_buffer("over", torch.arange(length)[:, None] > length - widths, persistent=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = nn.Parameter(torch.empty(vocabulary, embedding).uniform_(-1, 1))
            self.filters = nn.Parameter(torch.empty(self.features, embedding, widest))
            self.bias = nn.Parameter(torch.full((self.features,), DEVIATION))
            self.gate, self.layer = (nn.Linear(self.features, self.features) for _ in range(2))
            self.end = nn.Linear(self.features, 2)
            for each in (self.filters, self.end.weight):
                nn.init.trunc_normal_(each, 0, DEVIATION, -2 * DEVIATION, 2 * DEVIATION)
            for each in (self.gate, self.layer):
                nn.init.xavier_uniform_(each.weight)
            nn.init.constant_(self.gate.bias, -OPEN)
            nn.init.constant_(self.end.bias, DEVIATION)
            with torch.no_grad():
                self.filters *= self.used[:, None]  # type: ignore[index]

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """kept [b, features]: what each feature is multiplied by before the last layer; None: nothing is dropped."""
        embedded = x @ self.embedding if x.is_floating_point() else embedding(x, self.embedding)
        answers = self.answers_at_once(embedded) if x.is_cuda else self.answers(embedded)
        largest = relu(answers + self.bias)
        share = self.gate(largest).sigmoid()
        passed = share * relu(self.layer(largest)) + (1 - share) * largest
        logits = self.end(passed if kept is None else passed * kept)
        return logits[:, 1] - logits[:, 0]

    def answers(self, embedded: Tensor) -> Tensor:
        """[b, features], each filter's largest answer to embedded [b, T, e]: a convolution for each width."""
        columns = embedded.transpose(1, 2).contiguous()
        parts = zip(self.filters.split(list(self.counts.values())), self.counts, strict=True)
        return torch.cat([conv1d(columns, some[..., :width]).amax(2) for some, width in parts], 1)

    def answers_at_once(self, embedded: Tensor) -> Tensor:
        """`answers` by one product of matrices, all filters as wide as the widest.

        Six times the arithmetic, and on a GPU, which a dozen small convolutions leave idle, far less time.
        """
        widest = self.filters.shape[2]
        windows = pad(embedded, (0, 0, 0, widest - 1)).unfold(1, widest, 1).flatten(2)  # [b, T, e * widest]
        answers = windows @ (self.filters * self.used[:, None]).flatten(1).T  # type: ignore[index]
        return answers.masked_fill(self.over, -torch.inf).max(1).values  # type: ignore[arg-type]

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
