"""Is the model a function of each input alone: in eval mode, the same each time, whatever is beside it?"""

from torch import nn

from .finding import Finding, named
from .look import TRUE, Look

EXACT = 1e-4  # share of the logits' spread; what float32 rounds is less


def mode(look: Look) -> list[Finding]:
    """A train mode, or half a one, in which the answers are others."""
    training = [name or "the whole" for name, _, flag in look.flags if flag]
    if not training:
        return []
    given = look.as_given
    if given is None:
        effect = "raises in it"
    elif look.apart(look.logits, given) > 0:
        changed = int((given.argmax(1) != look.predicted).sum())
        effect = f"answers otherwise in it ({changed} of {len(given)} predictions change)"
    else:
        return []
    some = f" in {len(training)} of {len(look.flags)} modules ({named(training)})"
    where = some if len(training) < len(look.flags) else ""
    remedy = "Attacks put it in eval mode and back; call model.eval() before its accuracy is measured elsewhere."
    return [Finding("train_mode", "warning", f"The model is in train mode{where}, and {effect}.", remedy)]


def input_kept(look: Look) -> list[Finding]:
    if not look.first.input_changed:
        return []
    text = "The model changes its input in place, and attacks still need it."
    return [Finding("changes_input", "fatal", text, "Work on a copy in forward (x = x - mean instead of x -= mean).")]


def repeats(look: Look) -> list[Finding]:
    """Two answers to the same inputs."""
    changed = look.first.buffers_changed
    if changed:
        text = f"A pass in eval mode changes the model's buffers ({named(changed)})"
        remedy = "Let forward write nothing while self.training is false."
        if look.is_random:
            return [Finding("keeps_state", "fatal", f"{text}, and with them its answers.", remedy)]
        return [Finding("keeps_state", "note", f"{text}; its answers stay the same.", remedy)]
    if not look.is_random:
        return []
    if look.again is None:
        text = "The model answered once, and the second time raised or gave something else."
        return [Finding("random", "fatal", text, "Let forward keep nothing between two passes.")]
    flips = int((look.again.argmax(1) != look.predicted).sum())
    text = (
        f"The model is random: it answers the same inputs differently ({flips} of {len(look.predicted)} predictions "
        f"change, logits by up to {100 * look.apart(look.logits, look.again):.2g} % of their spread)."
    )
    remedy = (
        "Turn the randomness off in eval mode; or attack it from Python, averaged (attacks.models.Repeated) and judged "
        "on several passes (attacks.Victim(model, passes=20))."
    )
    return [Finding("random", "fatal", text, remedy)]


def batch_statistics(look: Look) -> list[Finding]:
    names = _without_statistics(look)
    if not names:
        return []
    text = (
        f"BatchNorm without running statistics ({named(names)}): each answer depends on the other rows of the batch, "
        "in eval mode too."
    )
    return [
        Finding("batch_statistics", "fatal", text, "Use track_running_stats=True, or a norm that looks at one row.")
    ]


def _without_statistics(look: Look) -> list[str]:
    kind = nn.modules.batchnorm._BatchNorm
    return [name for name, module, _ in look.flags if isinstance(module, kind) and module.running_mean is None]


def company(look: Look) -> list[Finding]:
    """A row by itself, and in another place of the batch, against the row among the others."""
    if look.is_random or _without_statistics(look):
        return []
    if any(row is None or row.shape != look.logits[:1].shape for row in look.alone):
        text = "The model cannot take one row by itself, and attacks shrink the batch to the rows that still stand."
        return [Finding("not_alone", "fatal", text, "Keep the batch axis in forward: flatten(1) instead of squeeze().")]
    apart = look.company
    if apart > TRUE:
        text = (
            f"The model answers an input differently beside others: logits move by up to {100 * apart:.2g} % of their "
            "spread with the rows that are there, or with their order."
        )
        remedy = "Let each row be computed from itself alone: no statistics, sorting or softmax over the batch axis."
        return [Finding("rows_interact", "fatal", text, remedy)]
    if apart > EXACT and look.coarse is None:
        text = f"Logits move with the batch by up to {100 * apart:.2g} % of their spread, more than in float32."
        remedy = "Expect single verdicts to differ between batch sizes; turn off TF32 and autocast for exact ones."
        return [Finding("inexact", "note", text, remedy)]
    return []
