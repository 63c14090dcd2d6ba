"""How does one input become the bytes of an image file, and come back from them?"""

import io

import numpy as np
from PIL import Image

from attacks.errors import InputError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
QUALITY = 95  # of JPEG, colours at full resolution
ENDINGS = {"png": ".png", "jpeg": ".jpg"}


def encoded(x: np.ndarray, encoding: str) -> bytes:
    """x: [C, H, W] uint8 with 1, 3 or 4 channels. The same input gives the same bytes."""
    image = Image.fromarray(x[0] if len(x) == 1 else np.ascontiguousarray(x.transpose(1, 2, 0)))
    file = io.BytesIO()
    if encoding == "jpeg":
        image.save(file, "JPEG", quality=QUALITY, subsampling=0)
    else:
        image.save(file, "PNG")
    return file.getvalue()


def decoded(content: bytes, shape: tuple[int, ...], name: str) -> np.ndarray:
    """[C, H, W] uint8; InputError where the image is damaged, or of another size or kind than the set's."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            if image.size == (shape[2], shape[1]):  # else it may be of any size, and is not decoded
                image.load()
    except Exception as error:  # each decoder raises its own
        raise InputError(f"{name} is not an image that can be read ({error}).") from error
    if image.mode != MODES[shape[0]] or image.size != (shape[2], shape[1]):
        raise InputError(
            f"{name} is {image.width} x {image.height}, {image.mode}; the set's images are {shape[2]} x {shape[1]}, "
            f"{MODES[shape[0]]}."
        )
    return np.asarray(image).reshape(shape[1], shape[2], shape[0]).transpose(2, 0, 1)


def whole_levels(x: np.ndarray) -> np.ndarray:
    """Floats k / 255 as uint8 k, rounded to the nearest: never cut off."""
    return np.round(np.asarray(x, dtype=np.float64) * 255).clip(0, 255).astype(np.uint8)
