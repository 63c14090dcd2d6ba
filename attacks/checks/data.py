"""What is wrong with the examples and their labels, before a model sees them?"""

import math

import torch
from torch import Tensor

from .finding import Finding, number
from .look import Look, fitting

UNUSED = 0.02  # inputs that use no more of their bounds than this have likely been divided twice
TYPES = (torch.float32, torch.float64)


def input_type(look: Look) -> list[Finding]:
    if look.data.dtype in TYPES:
        return []
    return [
        Finding(
            "input_type",
            "fatal",
            f"Inputs are {str(look.data.dtype).removeprefix('torch.')}; attacks take float32 or float64.",
            "Convert them: x.float(), and for 8-bit images x.float() / 255.",
        )
    ]


def finite_inputs(look: Look) -> list[Finding]:
    bad = int((~look.data.flatten(1).isfinite()).any(1).sum())
    if not bad:
        return []
    return [
        Finding(
            "nonfinite_inputs",
            "fatal",
            f"{bad} of {len(look.data)} inputs hold NaN or inf.",
            "Clean the data: drop these examples or fill in what is missing.",
        )
    ]


def bounds(look: Look) -> list[Finding]:
    low, high = look.edges
    x = look.data[look.data.flatten(1).isfinite().all(1)].to(low)
    outside = int(((x < low) | (x > high)).flatten(1).any(1).sum())
    if not outside:
        return []
    least, most = float(x.min()), float(x.max())
    edges = f"{number(float(low.min()))} to {number(float(high.max()))}"
    if least >= 0 and 200 <= most <= 255:
        remedy = "They look like 8-bit images: divide by 255."
    elif least < 0:
        remedy = "They look normalised: give them as they were before, and put the normalisation into the model "
        remedy += "(attacks.models.Normalized); or state the bounds of the data."
    else:
        remedy = "Scale them, or state the bounds of the data."
    text = f"{outside} of {len(x)} inputs lie outside the bounds: values run from {number(least)} to {number(most)}, "
    return [Finding("outside_bounds", "fatal", f"{text}the bounds are {edges}.", remedy)]


def used_range(look: Look) -> list[Finding]:
    low, high = look.edges
    allowed, least, most = float(high.max() - low.min()), float(look.x.min()), float(look.x.max())
    if not math.isfinite(allowed) or not 0 < most - least <= UNUSED * allowed:
        return []
    return [
        Finding(
            "unused_range",
            "warning",
            f"All values lie within {number(least)} to {number(most)}, {100 * (most - least) / allowed:.2g} % of what "
            "the bounds allow: any usual eps is then enormous.",
            "See whether the data were divided by 255 twice, or state their own bounds.",
        )
    ]


def constant_inputs(look: Look) -> list[Finding]:
    flat = look.x.flatten(1)
    count = int((flat.amax(1) == flat.amin(1)).sum()) if flat.shape[1] > 1 else 0
    if not count:
        return []
    return [
        Finding(
            "constant_inputs",
            "warning" if 2 * count > len(flat) else "note",
            f"{count} of {len(flat)} inputs have the same value everywhere.",
            "See whether these files were read whole.",
        )
    ]


def duplicates(look: Look) -> list[Finding]:
    seen: dict[bytes, int] = {}
    first = [seen.setdefault(row.tobytes(), k) for k, row in enumerate(look.data.detach().cpu().numpy())]
    again = [(place, k) for k, place in enumerate(first) if place != k]
    if not again:
        return []
    text = f"{len(again)} of {len(first)} inputs are exact copies of others"
    labels = look.data_labels
    at_odds = sum(bool(labels[a] != labels[b]) for a, b in again) if fitting(labels, len(first)) else 0
    if at_odds:
        return [
            Finding(
                "duplicates",
                "warning",
                f"{text}, {at_odds} of them under another label: no classifier gets both right.",
                "Mend the labels, or drop these examples.",
            )
        ]
    return [Finding("duplicates", "note", f"{text}: they count twice.", "Drop the copies.")]


def grid(look: Look) -> list[Finding]:
    """Images alone: other data have no grid to be on."""
    if look.x.ndim != 4 or [edge.tolist() for edge in look.edges] != [0.0, 1.0]:
        return []
    levels = look.x.double() * 255
    count = int(((levels - levels.round()).abs() > 1e-3).flatten(1).any(1).sum())
    if not count:
        return []
    return [
        Finding(
            "off_grid",
            "note",
            f"{count} of {len(look.x)} images are not on the 8-bit grid k / 255, so they have been resized or "
            "augmented.",
            "Nothing needs to be done, but attacks cannot be kept to 8-bit images (ThreatModel(levels=255)).",
        )
    ]


def label_type(look: Look) -> list[Finding]:
    labels = look.data_labels
    if labels is None or fitting(labels, len(look.data)):
        return []
    there = (
        f"{str(labels.dtype).removeprefix('torch.')} {tuple(labels.shape)}"
        if isinstance(labels, Tensor)
        else type(labels).__name__
    )
    return [
        Finding(
            "label_type",
            "fatal",
            f"Labels are {there}; class numbers are needed, int64 [{len(look.data)}], one per input.",
            "Convert them: torch.as_tensor(labels).long(); one-hot ones by argmax(1).",
        )
    ]
