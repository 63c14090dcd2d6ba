"""What did a model say of some inputs, as an audit writes it down?"""

from dataclasses import dataclass

from torch import Tensor

from attacks import Goal, Victim, losses
from attacks.errors import InputError
from attacks.victim import borrowed, check_logits
from reports.memory import is_out_of_memory


@dataclass(frozen=True)
class Answers:
    """What a model said of b inputs."""

    prediction: Tensor  # [b] int64
    margin: Tensor  # [b] best other logit minus the label's
    confidence: Tensor  # [b] probability of the prediction

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor) -> "Answers":
        confidence = logits.double().softmax(1).amax(1)
        return cls(logits.argmax(1), losses.margin(logits, Goal(labels)).value, confidence)

    def rows(self, which: Tensor) -> "Answers":
        """Only these rows [b] bool."""
        return Answers(self.prediction[which], self.margin[which], self.confidence[which])

    def with_rows(self, at: Tensor, others: "Answers") -> "Answers":
        """A copy in which the rows `at` are the others'."""
        pairs = ((self.prediction, others.prediction), (self.margin, others.margin))
        pairs = (*pairs, (self.confidence, others.confidence))
        return Answers(*(mine.index_copy(0, at, theirs) for mine, theirs in pairs))


def clean_logits(name: str, victim: Victim, x: Tensor, labels: Tensor, seed: int, *, partly: bool = False) -> Tensor:
    """[b, K]: what a model says of clean inputs; InputError, with its name, where that is no classifier's answer.

    partly: answers may be NaN or inf.
    """
    with borrowed(victim.model, seed):
        try:
            logits = victim.logits(x)
        except InputError:
            raise
        except Exception as error:  # whatever the model's own code raises
            if is_out_of_memory(error):
                raise
            shape = ", ".join(map(str, x.shape[1:]))
            why = str(error).strip().split("\n")[0]
            raise InputError(f"The model {name} cannot take inputs [b, {shape}]: {why}") from error
    try:
        said = logits[logits.isfinite().all(1)] if partly else logits
        if len(said):
            check_logits(said)
            Goal(labels).check(len(x), logits.shape[1])
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return logits
