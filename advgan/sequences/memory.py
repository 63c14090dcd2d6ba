"""A memory whose slots attend to each other and to the token that is read (arXiv 1806.01822), as in RelGAN."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, relu

from attacks import noise
from attacks.errors import InputError

from .model import Model, State

FORGET = 1.0  # added to the forget gate: at first the memory lasts


class Memory(Model):
    """A `Model` whose state is (memory [b, h],), of h = slots * width numbers; heads share the width.

    A step: slots query slots and token by attention over several heads; the answer is added to them and made even,
    a small network's answer to that likewise; gates then choose, for each number, between the memory and the answer.
    """

    kind = "memory"

    def __init__(self, vocabulary: int, embedding: int = 32, slots: int = 1, width: int = 64, heads: int = 2):
        super().__init__()
        if width % heads:
            raise InputError(f"{heads} heads cannot share a width of {width}. Take a multiple.")
        self.vocabulary, self.slots, self.width, self.heads, self.start = vocabulary, slots, width, heads, 0

        def empty(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(*shape))

        self.embedding = empty(vocabulary, embedding)
        self.inputs, self.input_bias = empty(embedding, width), empty(width)
        self.query, self.key_value = empty(width, width), empty(width, 2 * width)
        self.layers, self.layer_biases = empty(2, width, width), empty(2, width)
        self.gate_inputs, self.gate_memory, self.gate_bias = (
            empty(width, 2 * width),
            empty(width, 2 * width),
            empty(2 * width),
        )
        self.out, self.out_bias = empty(slots * width, vocabulary), empty(vocabulary)

    @classmethod
    def drawn(
        cls, seed: int, vocabulary: int, embedding: int = 32, slots: int = 1, width: int = 64, heads: int = 2
    ) -> Memory:
        """Matrices from N(0, 1 / n) for n numbers read, embedding and out from N(0, 0.1^2), biases 0."""
        model = cls(vocabulary, embedding, slots, width, heads)
        with torch.no_grad():
            for number, (name, parameter) in enumerate(model.named_parameters()):
                deviation = (
                    0.1 if name in ("embedding", "out") else 0 if "bias" in name else parameter.shape[-2] ** -0.5
                )
                values = noise.normal(seed, torch.tensor([number]), 0, tuple(parameter.shape))
                parameter.copy_(deviation * values[0])
        return model

    def about(self) -> dict[str, Any]:
        sizes = {name: getattr(self, name) for name in ("slots", "width", "heads")}
        return {"kind": self.kind, "vocabulary": self.vocabulary, "embedding": self.embedding.shape[1], **sizes}

    def nothing(self, rows: int) -> State:
        """Slots that can be told apart: the rows of an identity matrix."""
        slots = torch.eye(self.slots, self.width, dtype=self.out.dtype, device=self.out.device)
        return (slots.flatten().expand(rows, -1),)

    def after(self, embedded: Tensor, state: State) -> State:
        memory = state[0].unflatten(1, (self.slots, self.width))
        token = torch.addmm(self.input_bias, embedded, self.inputs)[:, None]
        answer = self._even(memory + self._attention(memory, torch.cat((memory, token), 1)))
        answer = self._even(answer + self._network(answer))
        gates = token @ self.gate_inputs + memory.tanh() @ self.gate_memory + self.gate_bias
        take, forget = gates.chunk(2, 2)
        memory = take.sigmoid() * answer.tanh() + (forget + FORGET).sigmoid() * memory
        return (memory.flatten(1),)

    def _attention(self, memory: Tensor, seen: Tensor) -> Tensor:
        """memory [b, slots, width] asks seen [b, slots + 1, width]."""
        heads = [
            each.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for each in (memory @ self.query, *(seen @ self.key_value).chunk(2, 2))
        ]
        query, key, value = heads
        shares = (query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])).softmax(-1)
        return (shares @ value).transpose(1, 2).flatten(2)

    def _network(self, answer: Tensor) -> Tensor:
        first, second = zip(self.layers, self.layer_biases, strict=True)
        return relu(answer @ first[0] + first[1]) @ second[0] + second[1]

    def _even(self, answer: Tensor) -> Tensor:
        return layer_norm(answer, (self.width,))
