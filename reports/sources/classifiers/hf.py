"""How is an image classifier of Hugging Face's transformers loaded, with what its processor does folded in?"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from attacks.errors import InputError
from attacks.models import Normalized, Resized
from reports.sources.needed import needed

BICUBIC = 3  # Pillow's number for it
UNKNOWN = ("do_pad", "do_reduce_labels", "do_flip_channel_order", "do_thumbnail", "do_align_long_axis")


def load(spec: str, weights: Path | None) -> tuple[str, nn.Module]:
    """`hf:FOLDER` (as save_pretrained wrote it) or `hf:ID`, an image classifier of the hub.

    Weights are read from safetensors alone, and no code that comes with a model is ever run. InputError where the
    model or its processor cannot be had, or the processor does what cannot be folded in.
    """
    transformers = needed("transformers", spec, "hub")
    place = spec.partition(":")[2]
    local = Path(place).is_dir()
    if not local and (place.count("/") > 1 or place.startswith((".", "/", "~"))):
        raise InputError(f"There is no folder {place}, which {spec} names.")
    if local and not any(Path(place).glob("*.safetensors")):
        raise InputError(
            f"{place} holds no safetensors file, and nothing else is read. Save it with "
            "model.save_pretrained(FOLDER, safe_serialization=True)."
        )
    with _quietly(transformers), _explained(spec, local):
        model, about = transformers.AutoModelForImageClassification.from_pretrained(
            place,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=local,
            attn_implementation="eager",  # a configuration could name one that is fetched and run
            output_loading_info=True,
        )
        processor = transformers.AutoImageProcessor.from_pretrained(
            place, trust_remote_code=False, local_files_only=local
        )
    odd = sorted({str(each) for kind in ("missing_keys", "mismatched_keys") for each in about.get(kind) or ()})
    if odd:
        raise InputError(f"The weights of {spec} do not fit its configuration: {', '.join(odd[:3])}.")
    return Path(place).name, folded(_Logits(model), processor, spec)


class _Logits(nn.Module):
    def __init__(self, classifier: nn.Module):
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(pixel_values=x).logits


def folded(model: nn.Module, processor: Any, spec: str) -> nn.Module:
    """The model behind the processor's resizing, scaling and normalisation, for images within [0, 1]."""
    odd = [name for name in UNKNOWN if getattr(processor, name, False)]
    if odd:
        raise InputError(f"The processor of {spec} does {', '.join(odd)}, which is not folded in. Wrap it in Python.")
    scale = 255 * processor.rescale_factor if getattr(processor, "do_rescale", False) else 255.0
    mean, std = [0.0], [1.0]
    if getattr(processor, "do_normalize", False):
        mean, std = list(processor.image_mean), list(processor.image_std)
    if getattr(processor, "include_top", False):  # EfficientNet's: once more
        model = Normalized(model, [0.0] * len(processor.image_std), processor.image_std)
    if getattr(processor, "rescale_offset", False):  # from -1 on
        mean = [each + 1.0 for each in mean]
    if any(mean) or any(each != scale for each in std):  # else it would change nothing
        model = Normalized(model, [each / scale for each in mean], [each / scale for each in std])
    if not getattr(processor, "do_resize", False):
        return model
    mode = "bicubic" if getattr(processor, "resample", None) == BICUBIC else "bilinear"
    return Resized(model, *_sizes(processor, spec), mode=mode)


def _sizes(processor: Any, spec: str) -> tuple[int | tuple[int, int], tuple[int, int] | None]:
    """What images are resized to, and the centre that is cut out."""
    size = processor.size
    height, width, shorter = (getattr(size, name, None) for name in ("height", "width", "shortest_edge"))
    crop = None
    if getattr(processor, "do_center_crop", False):
        crop = (processor.crop_size.height, processor.crop_size.width)
    if height and width:
        return (height, width), crop
    if not shorter:
        raise InputError(f"The processor of {spec} resizes to {size}, which is not folded in. Wrap it in Python.")
    share = getattr(processor, "crop_pct", None)  # ConvNeXt's: a margin is cut off, but of large images
    if share is None:
        return shorter, crop
    return (int(shorter / share), (shorter, shorter)) if shorter < 384 else ((shorter, shorter), None)


@contextlib.contextmanager
def _quietly(transformers: Any) -> Iterator[None]:
    """Without its progress bars and advice."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


@contextlib.contextmanager
def _explained(spec: str, local: bool) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # transformers, safetensors and the hub each raise their own
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        code = "trust_remote_code" in str(error)
        remedy = "Code that comes with a model is not run: load it in a file of your own and name FILE.py:FUNCTION."
        fetch = "" if local else " Where there is no network, name a folder that save_pretrained wrote."
        raise InputError(f"{spec} cannot be loaded ({why}). {remedy if code else ''}{fetch}".strip()) from error
