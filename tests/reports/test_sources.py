"""Models and data named by text: what is found, how it is read, and what is said where it cannot be."""

import io
import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from attacks.errors import InputError
from attacks.models import Normalized
from reports.sources import data, models
from reports.sources.weights import read_weights

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="peer: the folder of outside models and data is not here")

NET = """
import torch
from torch import nn

ready = nn.Linear(36, 3)

def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).train()

def helped():
    from helper import make
    return make()

def needs(width, depth=2):
    return linear()

def number():
    return 7

def fails():
    return nn.Linear(3, 3)(torch.zeros(2))

def leaves():
    raise SystemExit("a script, not a module")
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(NET)
    (tmp_path / "helper.py").write_text("from torch import nn\n\ndef make():\n    return nn.Linear(2, 2)\n")
    return path


def read(dataset: data.Dataset, examples: int | None = None, batch_size: int = 4) -> data.Batch:
    parts = list(dataset.batches(examples, batch_size))
    return data.Batch(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def npz(path: Path, x: np.ndarray, y: np.ndarray | None = None) -> str:
    np.savez(path, x=x, y=np.arange(len(x)) % 3 if y is None else y)
    return str(path)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def pixels(k: int, size: tuple[int, ...] = (6, 6)) -> np.ndarray:
    return np.random.default_rng(k).integers(0, 256, size, dtype=np.uint8)


# -- models --


def test_the_digits_are_two_models_and_each_has_a_name():
    assert list(models.load("digits")) == ["digits_standard", "digits_robust"]
    assert list(models.load("digits:robust")) == ["digits_robust"]


def test_a_function_in_a_file_makes_a_model_in_eval_mode(net: Path):
    made = models.load(f"{net}:linear")
    assert list(made) == ["linear"]
    assert not made["linear"].training


def test_a_file_may_import_its_neighbours_and_may_hold_the_module_itself(net: Path):
    assert isinstance(models.load(f"{net}:helped")["helped"], nn.Linear)
    assert isinstance(models.load(f"{net}:ready")["ready"], nn.Linear)


def test_a_function_in_a_package_makes_a_model(net: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(net.parent)
    net.rename(net.parent / "some_net.py")
    assert isinstance(models.load("some_net:linear")["linear"], nn.Sequential)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("digit", "Did you mean 'digits'"),
        ("digits:robbust", "Did you mean 'digits:robust'"),
        ("torchvison:resnet18", "Did you mean torchvision:NAME"),
        ("torchvision:resnet19", "Did you mean 'resnet18'"),
        ("no_such_package.net:make", "no module no_such_package"),
        ("net.py", "names no function"),
        ("gone.py:make", "no file gone.py"),
        ("{net}:liner", "Did you mean 'linear'"),
        ("{net}:needs", "needs width;"),
        ("{net}:number", "returns int"),
        ("{net}:fails", "net.py, line 22"),
        ("{net}:leaves", "SystemExit: a script"),
        ("math:pi", "is float"),
    ],
)
def test_a_model_that_cannot_be_had_is_explained(net: Path, spec: str, said: str):
    with pytest.raises(InputError) as caught:
        models.load(spec.format(net=net))
    assert said in str(caught.value)


def test_a_file_that_is_not_python_is_explained_with_its_line(tmp_path: Path):
    (tmp_path / "bad.py").write_text("x = 1\ndef make(:\n")
    with pytest.raises(InputError, match=r"invalid syntax.*bad\.py, line 2"):
        models.load(f"{tmp_path}/bad.py:make")


# -- weights --


@pytest.mark.parametrize("kind", ["safetensors", "pt", "wrapped", "parallel"])
def test_weights_are_loaded_into_the_model(net: Path, kind: str):
    state = {"1.weight": torch.full((3, 36), 0.5), "1.bias": torch.arange(3.0)}
    path = net.parent / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save_file(state, path)
    else:
        parallel = {f"module.{name}": value for name, value in state.items()}
        torch.save({"pt": state, "wrapped": {"epoch": 3, "state_dict": state}, "parallel": parallel}[kind], path)
    loaded = models.load(f"{net}:linear", weights=path)["linear"]
    assert torch.equal(loaded.state_dict()["1.bias"], torch.arange(3.0))


def test_weights_that_do_not_fit_are_named(net: Path):
    path = net.parent / "w.safetensors"
    save_file({"1.weight": torch.zeros(4, 36), "head.bias": torch.zeros(4)}, path)
    with pytest.raises(InputError) as caught:
        models.load(f"{net}:linear", weights=path)
    for said in ("missing 1.bias", "unexpected head.bias", "1.weight is [4, 36] in the file and [3, 36] in the model"):
        assert said in str(caught.value)


class Code:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


def test_pickled_code_is_refused_and_not_run(net: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(net.parent)
    torch.save({"1.weight": Code()}, "code.pt")
    Path("plain.pkl").write_bytes(pickle.dumps(Code()))
    for file in ("code.pt", "plain.pkl"):
        with pytest.raises(InputError, match=r"pickled code|not a whole file"):
            models.load(f"{net}:linear", weights=Path(file))
    assert not Path("ran").exists()
    torch.save(nn.Linear(2, 2), "module.pt")
    with pytest.raises(InputError, match="pickled code"):
        models.load(f"{net}:linear", weights=Path("module.pt"))


def test_damaged_weights_are_explained(tmp_path: Path):
    save_file({"w": torch.zeros(100)}, tmp_path / "w.safetensors")
    torch.save({"w": torch.zeros(100)}, tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        whole = (tmp_path / name).read_bytes()
        for length in (0, 5, len(whole) // 2):
            (tmp_path / name).write_bytes(whole[:length])
            with pytest.raises(InputError, match="not a whole"):
                read_weights(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(InputError, match="holds list; a state dict is needed"):
        read_weights(tmp_path / "list.pt")
    with pytest.raises(InputError, match="no file of weights"):
        read_weights(tmp_path / "gone.pt")


def test_the_digits_take_no_weights(tmp_path: Path):
    with pytest.raises(InputError, match="brings its own"):
        models.load("digits", weights=tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5"])
def test_torchvision_models_take_their_number_of_classes_from_the_weights(tmp_path: Path, name: str):
    from torchvision.models import get_model

    torch.manual_seed(0)
    torch.save(get_model(name, weights=None, num_classes=7).state_dict(), tmp_path / "w.pt")
    model = models.load(f"torchvision:{name}", weights=tmp_path / "w.pt")[name]
    assert isinstance(model, Normalized)
    assert model.mean.tolist() == pytest.approx([0.485, 0.456, 0.406])
    with torch.no_grad():
        assert model(torch.rand(1, 3, 64, 64)).shape == (1, 7)


def test_torchvision_weights_of_another_model_are_refused(tmp_path: Path):
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"lacks fc\.bias"):
        models.load("torchvision:resnet18", weights=tmp_path / "w.pt")


def test_without_a_network_torchvision_weights_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from torch import hub

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(hub, "download_url_to_file", refuse)
    monkeypatch.setattr(hub, "_hub_dir", str(tmp_path))
    with pytest.raises(InputError, match=r"no network.*name the file with --weights"):
        models.load("torchvision:resnet18")


# -- arrays --


@pytest.mark.parametrize(
    ("shape", "becomes"),
    [
        ((9, 5), (5,)),
        ((9, 6, 7), (1, 6, 7)),
        ((9, 3, 6, 7), (3, 6, 7)),
        ((9, 6, 7, 3), (3, 6, 7)),
        ((1, 1, 6, 6), (1, 6, 6)),
    ],
)
def test_arrays_of_every_layout_become_channels_first(tmp_path: Path, shape: tuple[int, ...], becomes: tuple[int, ...]):
    x = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    dataset = data.load(npz(tmp_path / "a.npz", x))
    batch = read(dataset)
    assert dataset.shape == becomes
    assert batch.x.shape == (shape[0], *becomes)
    expected = np.moveaxis(x, 3, 1) if shape[-1] == 3 and len(shape) == 4 else x
    assert np.array_equal((batch.x.numpy() * 255).round().reshape(expected.shape), expected)


def test_bytes_are_divided_by_255_and_floats_are_left_alone(tmp_path: Path):
    levels = np.arange(256, dtype=np.uint8).reshape(1, 256)
    assert torch.equal(read(data.load(npz(tmp_path / "a.npz", levels))).x, torch.arange(256)[None] / 255)
    floats = np.linspace(0, 1, 256).reshape(1, 256)
    assert np.array_equal(read(data.load(npz(tmp_path / "b.npz", floats))).x.numpy(), floats.astype(np.float32))


def test_ids_are_places_and_the_first_examples_are_taken(tmp_path: Path):
    dataset = data.load(npz(tmp_path / "a.npz", pixels(0, (11, 6, 6))))
    assert [len(b.ids) for b in dataset.batches(None, 4)] == [4, 4, 3]
    batch = read(dataset, examples=6)
    assert batch.ids.tolist() == list(range(6))
    assert batch.ids.dtype == batch.labels.dtype == torch.int64
    assert len(read(dataset, examples=99).x) == 11
    with pytest.raises(InputError, match="at least one example"):
        read(dataset, examples=0)


OK = np.zeros((6, 1, 7, 7), dtype=np.float32)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (OK - 0.5, None, "runs from -0.5 to -0.5"),
        (OK + 255, None, "Save pixels as uint8"),
        (np.where(np.arange(6)[:, None] == 4, np.nan, 0.5) * np.ones((6, 5)), None, "example 4 holds NaN or inf"),
        (np.full((6, 5), np.inf), None, "example 0 holds NaN or inf"),
        (OK.astype(np.int64), None, "x is int64"),
        (OK.astype(bool), None, "x is bool"),
        (OK.astype(np.complex64), None, "x is complex64"),
        (OK[:0], None, "is empty"),
        (OK[:, :, :0], None, "is empty"),
        (OK[:, 0, 0, 0], None, "[N, H, W, C] is needed"),
        (np.zeros((6, 3, 7, 3)), None, "which may be [N, C, H, W] or [N, H, W, C]"),
        (np.zeros((6, 7, 7, 7)), None, "1, 3 or 4 channels"),
        (OK, np.zeros(5, int), "x has 6 examples and y 5"),
        (OK, np.zeros(6), "y is float64"),
        (OK, np.eye(6, dtype=int), "take y.argmax(1)"),
        (OK, np.array([0, 1, -1, 2, 0, 0]), "1 of 6 labels are negative"),
        (OK, np.array([0, 1, 10**12, 2, 0, 0]), "Renumber"),
        (OK, np.array([0, 1, 2**63 + 1, 2, 0, 0], dtype=np.uint64), "Renumber"),
    ],
)
def test_arrays_that_cannot_be_audited_are_explained(tmp_path: Path, x: np.ndarray, y: np.ndarray | None, said: str):
    with pytest.raises(InputError) as caught:
        data.load(npz(tmp_path / "a.npz", x, np.arange(len(x)) % 3 if y is None else y))
    assert said in str(caught.value)


def test_damaged_or_foreign_npz_files_are_explained(tmp_path: Path):
    path = tmp_path / "a.npz"
    npz(path, pixels(0, (20, 6, 6)))
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="not a whole npz file"):
            data.load(str(path))
    flipped = bytearray(whole)
    flipped[200] ^= 255
    path.write_bytes(flipped)
    with pytest.raises(InputError, match="not a whole npz file"):
        data.load(str(path))
    np.savez(path, images=OK)
    with pytest.raises(InputError, match="holds images; arrays x"):
        data.load(str(path))
    np.savez(path, x=np.array([{}, {}]), y=np.arange(2))
    with pytest.raises(InputError, match="holds pickled objects"):
        data.load(str(path))


# -- parquet --


def parquet(path: Path, images: list, labels: list, names: list[str] | None = None, plain: bool = False) -> str:
    kind = pa.binary() if plain else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    values = images if plain else [{"bytes": image, "path": None} for image in images]
    table = pa.table({"image": pa.array(values, kind), "label": pa.array(labels)})
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=3)
    return str(path)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
def test_parquet_images_are_read_in_order_whatever_the_batches(tmp_path: Path, plain: bool, batch_size: int):
    originals = [pixels(k, (6, 7, 3)) for k in range(8)]
    spec = parquet(tmp_path / "a.parquet", [png(p) for p in originals], [0, 1, 2, 3, 0, 1, 2, 3], plain=plain)
    dataset = data.load(spec)
    batch = read(dataset, batch_size=batch_size)
    assert dataset.classes == ["0", "1", "2", "3"]
    assert dataset.shape == (3, 6, 7)
    assert np.array_equal((batch.x.numpy() * 255).round(), np.stack(originals).transpose(0, 3, 1, 2))
    assert batch.labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert [len(b.x) for b in dataset.batches(5, 4)] == [4, 1]


def test_parquet_class_names_come_from_the_metadata(tmp_path: Path):
    images = [png(pixels(k)) for k in range(2)]
    dataset = data.load(parquet(tmp_path / "a.parquet", images, [0, 1], ["cat", "dog", "eel"]))
    assert dataset.classes == ["cat", "dog", "eel"]
    assert dataset.shape == (1, 6, 6)
    with pytest.raises(InputError, match="has the label 2 and names 2 classes"):
        data.load(parquet(tmp_path / "b.parquet", images, [0, 2], ["cat", "dog"]))


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        ([png(pixels(0)), b"not an image"], [0, 1], "row 1 of"),
        ([png(pixels(0)), png(pixels(1))[:60]], [0, 1], "row 1 of"),
        ([png(pixels(0)), None], [0, 1], "has no bytes"),
        ([png(pixels(0)), png(pixels(1, (5, 6)))], [0, 1], "--image-size 6"),
        ([png(pixels(0))], [-1], "unlabelled"),
        ([png(pixels(0))], [None], "label is null"),
        ([png(pixels(0)), png(pixels(0))], [1, None], "1 labels are missing"),
        ([png(pixels(0))], ["cat"], "label is string"),
        ([], [], "label is null"),
    ],
)
def test_parquet_that_cannot_be_audited_is_explained(tmp_path: Path, images: list, labels: list, said: str):
    with pytest.raises(InputError) as caught:
        read(data.load(parquet(tmp_path / "a.parquet", images, labels)))
    assert said in str(caught.value)


def test_damaged_or_foreign_parquet_files_are_explained(tmp_path: Path):
    path = Path(parquet(tmp_path / "a.parquet", [png(pixels(k)) for k in range(9)], [0, 1, 2] * 3))
    whole = path.read_bytes()
    for length in range(0, len(whole), 211):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="not a whole parquet file"):
            read(data.load(str(path)))
    pq.write_table(pa.table({"img": [b""], "label": [0]}), path)
    with pytest.raises(InputError, match="has the columns img, label; image not found"):
        data.load(str(path))
    pq.write_table(pa.table({"image": [3], "label": [0]}), path)
    with pytest.raises(InputError, match="image is int64; encoded images"):
        data.load(str(path))
    pq.write_table(pa.table({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}), path)
    with pytest.raises(InputError, match="is empty"):
        data.load(str(path))


# -- folders --


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name, count in (("ant", 3), ("bee", 1), ("cow", 2)):
        (folder / name).mkdir(parents=True)
        for k in range(count):
            (folder / name / f"{k}.png").write_bytes(png(pixels(k, (8, 6, 3))))
        (folder / name / "notes.txt").write_text("not an image")
    (folder / ".cache").mkdir()
    return folder


def test_examples_of_a_folder_are_taken_in_turn_from_the_classes(photos: Path):
    dataset = data.load(str(photos))
    assert dataset.classes == ["ant", "bee", "cow"]
    assert read(dataset).labels.tolist() == [0, 1, 2, 0, 2, 0]
    assert read(dataset, 3).labels.tolist() == [0, 1, 2]


def test_images_of_different_sizes_are_brought_to_one_by_image_size(photos: Path):
    (photos / "bee" / "0.png").write_bytes(png(pixels(5, (30, 50, 3))))
    with pytest.raises(InputError, match=r"0\.png is 50 x 30 pixels.*--image-size 6"):
        read(data.load(str(photos)))
    assert read(data.load(str(photos), image_size=5)).x.shape == (6, 3, 5, 5)


def test_resizing_keeps_the_shape_of_things_and_the_centre(tmp_path: Path):
    (tmp_path / "a").mkdir()
    wide = np.zeros((10, 30), dtype=np.uint8)
    wide[:, 10:20] = 255
    (tmp_path / "a" / "wide.png").write_bytes(png(wide))
    assert bool((read(data.load(str(tmp_path), image_size=10)).x == 1).all())


@pytest.mark.parametrize(
    ("mode", "channels"), [("L", 1), ("1", 1), ("LA", 1), ("RGB", 3), ("RGBA", 3), ("P", 3), ("CMYK", 3)]
)
def test_images_of_every_common_mode_are_read(tmp_path: Path, mode: str, channels: int):
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels(0, (6, 6, 3))).convert(mode).save(tmp_path / "a" / "0.tif")
    assert read(data.load(str(tmp_path))).x.shape == (1, channels, 6, 6)


def test_grey_images_among_colour_ones_become_colour(photos: Path):
    (photos / "bee" / "0.png").write_bytes(png(pixels(5, (8, 6))))
    assert read(data.load(str(photos))).x.shape == (6, 3, 8, 6)


def test_images_that_cannot_be_read_are_named(photos: Path):
    (photos / "ant" / "2.png").write_bytes(png(pixels(0, (8, 6, 3)))[:80])
    with pytest.raises(InputError, match=r"ant/2\.png is not an image that can be read"):
        read(data.load(str(photos)))
    Image.fromarray(np.zeros((8, 6), dtype=np.uint16)).save(photos / "ant" / "2.png")
    with pytest.raises(InputError, match="more than 8 bits"):
        read(data.load(str(photos)))


def test_folders_without_images_are_explained(tmp_path: Path):
    with pytest.raises(InputError, match="holds no folders"):
        data.load(str(tmp_path))
    (tmp_path / "ant").mkdir()
    with pytest.raises(InputError, match="1 folders without images"):
        data.load(str(tmp_path))


# -- the rest --


def test_the_digits_are_a_third_of_the_set_on_the_8_bit_grid():
    dataset = data.load("digits")
    batch = read(dataset)
    assert dataset.shape == (1, 8, 8)
    assert dataset.classes == [str(k) for k in range(10)]
    assert len(dataset) == pytest.approx(1797 / 3, abs=2)
    assert torch.equal((batch.x.double() * 255).round() / 255, (batch.x.double() * 255).round() / 255)
    assert float(((batch.x.double() * 255) - (batch.x.double() * 255).round()).abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("digit", "Did you mean 'digits'"),
        ("gone.npz", "no file or folder gone.npz"),
        ("gone/", "no data set 'gone/'"),
        ("torchvision:CIFAR11", "Did you mean 'CIFAR10'"),
        ("{here}/a.np", "Did you mean {here}/a.npz"),
        ("{here}/b.txt", "is not data that can be read"),
    ],
)
def test_data_that_is_not_there_is_explained(tmp_path: Path, spec: str, said: str):
    npz(tmp_path / "a.npz", OK)
    (tmp_path / "b.txt").write_text("")
    with pytest.raises(InputError) as caught:
        data.load(spec.format(here=tmp_path))
    assert said.format(here=tmp_path) in str(caught.value)


def test_arrays_are_not_resized(tmp_path: Path):
    for spec in ("digits", npz(tmp_path / "a.npz", OK)):
        with pytest.raises(InputError, match="--image-size is for images read from files"):
            data.load(spec, image_size=4)
    with pytest.raises(InputError, match="at least 1 pixel"):
        data.load("digits", image_size=0)


def idx(values: np.ndarray) -> bytes:
    """The format of MNIST's own files."""
    return bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape) + values.tobytes()


def test_torchvision_test_splits_are_read_from_their_root(tmp_path: Path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images, labels = pixels(0, (5, 28, 28)), np.array([3, 1, 4, 1, 5], dtype=np.uint8)
    for split in ("train", "t10k"):
        (raw / f"{split}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx(labels))
    dataset = data.load("torchvision:MNIST", root=tmp_path)
    batch = read(dataset)
    assert len(dataset.classes) == 10
    assert np.array_equal((batch.x.numpy() * 255).round()[:, 0], images)
    assert batch.labels.tolist() == [3, 1, 4, 1, 5]


def test_without_a_network_torchvision_data_are_asked_for_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from torchvision.datasets import CIFAR10

    def refuse(_self: CIFAR10) -> None:
        raise OSError("no network")

    monkeypatch.setattr(CIFAR10, "download", refuse)
    with pytest.raises(InputError, match=r"no network.*--data-root"):
        data.load("torchvision:CIFAR10", root=tmp_path / "root")
    assert not (tmp_path / "root").exists()


@needs_shared
def test_outside_models_are_right_about_outside_data():
    mnist = read(data.load(str(SHARED / "mnist_test.npz")), 200, 200)
    cifar = read(data.load(str(SHARED / "cifar10_jpeg_test.parquet")), 200, 64)
    for name, batch, least in (("advertorch_adv", mnist, 0.95), ("resnet20", cifar, 0.7)):
        model = models.load(f"{SHARED}/models.py:{name}")[name]
        with torch.no_grad():
            assert float((model(batch.x).argmax(1) == batch.labels).float().mean()) > least
