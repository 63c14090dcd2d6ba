"""Are the masks what they say: JPEG as Pillow writes it, pruning right on average, models right when clean?"""

import io

import numpy as np
import pytest
import torch
from masking import MASKING
from masks import JPEG, Pruned, Winners
from outside import MNIST, SHARED, rows_of
from PIL import Image

needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the outside weights and images are not here")


@needs_shared
def test_jpeg_gives_back_what_pillow_reads_of_quality_50():
    x, _ = rows_of(MNIST, 0, 4)
    ours = (JPEG(1.0)(x) * 255).round()
    for image, back in zip(x, ours, strict=True):
        file = io.BytesIO()
        Image.fromarray((image[0] * 255).byte().numpy()).save(file, "jpeg", quality=50)
        theirs = torch.from_numpy(np.array(Image.open(file))).float()
        assert (back[0] - theirs).abs().max() <= 2  # its cosines are whole numbers


def test_pruning_is_right_on_average():
    z = torch.rand(1, 6) + 0.5
    mean = Pruned(0.5)(z.expand(100_000, 6)).mean(0)
    assert torch.allclose(mean, z[0], rtol=0.02)


def test_the_winners_are_the_largest():
    assert Winners(0.5)(torch.tensor([[3.0, -1.0, 2.0, 0.5]])).tolist() == [[3.0, 0.0, 2.0, 0.0]]


@needs_shared
@pytest.mark.parametrize("name", MASKING)
def test_masked_models_are_right_on_most_clean_images(name: str):
    x, labels = rows_of(MNIST, 0, 300)
    with torch.no_grad():
        assert (MASKING[name].make()(x).argmax(1) == labels).double().mean() > 0.85
