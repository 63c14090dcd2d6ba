"""Data of other kinds: tables with bounds and immutable columns, WebDataset tars, and sets of Hugging Face's."""

import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import attacks
from attacks.errors import InputError
from reports.sources import data
from tests.reports.commands import Advgan

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 6, 6, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def whole(dataset: data.Dataset) -> tuple[np.ndarray, list[int]]:
    parts = list(dataset.batches(None, 3))
    return torch.cat([part.x for part in parts]).numpy(), torch.cat([part.labels for part in parts]).tolist()


# -- CSV --

CSV = "age,sex,pay,label\n20,0,1.5,0\n60,1,2.5,1\n40,1,0.5,1\n30,0,1.0,0\n"


def table(tmp_path: Path, about: dict | None = None, text: str = CSV) -> Path:
    (tmp_path / "people.csv").write_text(text)
    if about is not None:
        (tmp_path / "people.json").write_text(json.dumps(about))
    return tmp_path / "people.csv"


def bounds(found: data.Dataset) -> list[list[float]]:
    return [torch.as_tensor(each).tolist() for each in found.bounds]


def test_a_table_has_the_bounds_that_are_said_and_else_its_own_which_is_told(tmp_path: Path):
    found = data.load(str(table(tmp_path, {"bounds": {"age": [17, 90]}, "immutable": ["sex"]})))
    x, y = whole(found)
    assert x.tolist() == [[20, 0, 1.5], [60, 1, 2.5], [40, 1, 0.5], [30, 0, 1]]
    assert y == [0, 1, 1, 0]
    assert bounds(found) == [[17, 0, 0.5], [90, 1, 2.5]]
    assert found.mask is not None
    assert found.mask.tolist() == [1, 0, 1]
    assert "2 of 3 columns (sex, pay) have no bounds" in found.notes[0]


def test_a_table_within_0_and_1_in_all_columns_is_like_any_other_data(tmp_path: Path):
    found = data.load(str(table(tmp_path, text="a,b,y\n0,1,0\n1,0,1\n")))
    assert found.plain("advgan probe") is found
    assert found.bounds == (0.0, 1.0)
    other = data.load(str(table(tmp_path, {"immutable": ["a"]}, "a,b,y\n0,1,0\n1,0,1\n")))
    with pytest.raises(InputError, match="advgan probe takes inputs within 0 to 1"):
        other.plain("advgan probe")


def test_labels_may_be_names_in_the_order_that_is_said(tmp_path: Path):
    text = "a,answer\n0.5,yes\n0.2,no\n0.1,yes\n"
    found = data.load(str(table(tmp_path, {"label": "answer"}, text)))
    assert (found.classes, whole(found)[1]) == (["no", "yes"], [1, 0, 1])
    found = data.load(str(table(tmp_path, {"label": "answer", "classes": ["yes", "no"]}, text)))
    assert (found.classes, whole(found)[1]) == (["yes", "no"], [0, 1, 0])


def test_no_attack_leaves_the_bounds_or_changes_an_immutable_column(tmp_path: Path):
    found = data.load(str(table(tmp_path, {"bounds": {"pay": [0, 3]}, "immutable": ["sex"]})))
    batch = next(found.batches(None, 9))
    model = torch.nn.Linear(3, 2)  # age + 9 sex > 45.5
    model.load_state_dict({"weight": torch.tensor([[0.0, 0, 0], [1, 9, 0]]), "bias": torch.tensor([45.5, 0])})
    low, high = (torch.as_tensor(bound) for bound in found.bounds)
    for name in ("pgd", "hopskipjump", "uniform_noise"):
        threat = attacks.linf(5.0, bounds=found.bounds, mask=found.mask)
        result = attacks.run(name, model, batch.x, model(batch.x).argmax(1), threat)
        assert ((result.x_adv >= low) & (result.x_adv <= high)).all()
        assert torch.equal(result.x_adv[:, 1], batch.x[:, 1])
        assert result.fooled.nonzero().flatten().tolist() == [2] or name == "uniform_noise"


PY = """
import numpy as np
from sklearn.linear_model import LogisticRegression

def model():
    x = np.array([[20, 0, 1.5], [60, 1, 2.5], [40, 1, 0.5], [30, 0, 1.0]])
    return LogisticRegression().fit(x, [0, 1, 1, 0])

def decides():
    from sklearn.svm import LinearSVC
    x = np.array([[20, 0, 1.5], [60, 1, 2.5], [40, 1, 0.5], [30, 0, 1.0]])
    return LinearSVC().fit(x, [0, 1, 1, 0])
"""


def test_an_audit_of_estimators_runs_what_applies_and_keeps_to_bounds_and_mask(command: Advgan):
    table(Path(), {"bounds": {"age": [17, 90], "sex": [0, 1], "pay": [0, 3]}, "immutable": ["sex"]})
    Path("made.py").write_text(PY)
    ended = command(
        "audit", "-m", "made.py:model", "-m", "made.py:decides", "-d", "people.csv", "-t", "linf:30", "-o", "out",
        "-a", "fgsm", "-a", "simba:queries=50", "-a", "hopskipjump:queries=50", "-a", "uniform_noise",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    about = json.loads(Path("out", "audit.json").read_text())
    ran = {name: sorted(each["threats"]["linf:30"]["attacks"]) for name, each in about["models"].items()}
    assert ran == {"model": ["hopskipjump", "simba", "uniform_noise"], "decides": ["hopskipjump", "uniform_noise"]}
    assert [about["models"][name]["access"] for name in ran] == ["scores", "decision"]
    notes = " ".join(doubt["text"] for doubt in about["doubts"])
    assert "Left out, since they need more: fgsm." in notes
    assert "Left out, since they need more: fgsm, simba." in notes
    assert about["data"]["bounds_of_features"] == [[17, 0, 0], [90, 1, 3]]
    assert about["data"]["mask"] == [1, 0, 1]
    assert "decides: it reveals its decisions, no scores." in ended.err
    page = Path("out", "report.html").read_text()
    assert "it reveals its decisions, no scores." in page
    assert "Left out, since they need more: fgsm, simba." in page
    assert "no_gradient" not in json.dumps(about["preflight"])
    x, _ = whole(data.load("people.csv"))
    for file in Path("out", "adversarial").glob("*.npz"):
        with np.load(file) as found:
            assert (found["x"][:, 1] == x[found["id"], 1]).all()
            assert (found["x"] >= [17, 0, 0]).all()
            assert (found["x"] <= [90, 1, 3]).all()


@pytest.mark.parametrize("name", ["probe", "dataset", "train perturber", "train gan"])
def test_commands_that_know_no_other_bounds_refuse_a_table_that_has_some(command: Advgan, name: str):
    table(Path())
    Path("made.py").write_text(PY)
    model = [] if name == "train gan" else ["-m", "made.py:model", "-t", "linf:1"]
    ended = command(*name.split(), "-d", "people.csv", *model, "-o", "out")
    assert (ended.status, Path("out").exists()) == (2, False)
    assert "takes inputs within 0 to 1 that may change anywhere" in ended.err


def test_a_perturber_is_not_trained_through_a_model_without_gradients(command: Advgan):
    Path("made.py").write_text("import numpy as np\ndef model():\n    return lambda x: x.reshape(len(x), -1)[:, :10]\n")
    np.savez("x.npz", x=np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8), y=np.arange(60) % 10)
    ended = command("train", "perturber", "-m", "made.py:model", "-d", "x.npz", "-t", "linf:0.1", "-o", "out")
    assert ended.status == 2
    assert "model gives no gradients, and a perturber is trained through them" in ended.err


def test_without_attacks_an_audit_takes_those_that_suit_what_is_revealed(command: Advgan):
    table(Path(), text="a,b,y\n0,1,0\n1,0,1\n0.2,0.9,0\n")
    Path("made.py").write_text("def model():\n    return lambda x: x\n")
    ended = command("audit", "-m", "made.py:model", "-d", "people.csv", "-t", "linf:0.9", "-o", "out")
    assert ended.status == 0, ended.err
    about = json.loads(Path("out", "audit.json").read_text())
    assert sorted(about["models"]["model"]["threats"]["linf:0.9"]["attacks"]) == [
        "gaussian_noise",
        "simba",
        "uniform_noise",
    ]
    ended = command("audit", "-m", "made.py:model", "-d", "people.csv", "-t", "linf:0.9", "-o", "two", "-a", "pgd")
    assert (ended.status, Path("two").exists()) == (2, False)
    assert "reveals its scores, no gradients, and pgd need more" in ended.err


@pytest.mark.parametrize(
    ("text", "about", "said"),
    [
        ("a,b\n1,2\n", None, "no column of labels"),
        ("a,y\n1,0\n", {"label": "yy"}, "Did you mean 'y'"),
        ("a,y\n1,0\n", {"immutable": ["b"]}, "no feature"),
        ("a,y\n1,0\n", {"bounds": {"b": [0, 1]}}, "no feature"),
        ("a,y\n1,0\n", {"bounds": {"a": [2, 3]}}, "beyond its 2 to 3"),
        ("a,y\n1,0\n", {"bounds": {"a": [2, 1]}}, "low not above high"),
        ("a,y\n1,0\n", {"bounds": {"a": "0..1"}}, "low not above high"),
        ("a,y\n1,0\n", {"bounds": [0, 1]}, "low not above high"),
        ("a,y\n1,0\n", {"boundz": {}}, "Did you mean 'bounds'"),
        ("a,y\n1,0\n", {"classes": "ab"}, "a list of names"),
        ("a,y\n1,0\n", {"label": 3}, "the name of a column"),
        ("a,y\n1,5\n", {"classes": ["x", "y"]}, "names 2 classes"),
        ("a,y\n1,maybe\n", {"classes": ["x", "y"]}, "not among the classes"),
        ("a,y\n1,-1\n", None, "is negative"),
        ("a,y\n1,0.5\n", None, "the labels are floats"),
        ("a,y\n1,\n2,1\n", None, "1 labels are missing|the labels are floats"),
        ("a,y\nred,0\n", None, "the column a is no numbers"),
        ("a,b,y\n,2,0\n1,2,1\n", None, "a is missing or infinite in row 0"),
        ("a,y\n1e400,0\n", None, "missing or infinite"),
        ("a,y\n1e39,0\n", None, "missing or infinite"),
        ("a,y\n", None, "no rows"),
        ("", None, "is not a CSV file"),
        ("y\n0\n", None, "no column but the labels"),
        ("a,y\n1,0,7\n", None, "longer than its line of names"),
        ("a,y\n1,99999999999\n", None, "Renumber"),
    ],
)
def test_a_table_that_cannot_be_used_is_explained(tmp_path: Path, text: str, about: dict | None, said: str):
    with pytest.raises(InputError, match=said):
        data.load(str(table(tmp_path, about, text)))


# -- WebDataset --


def tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("label", [".cls", ".json"])
def test_a_tar_holds_images_and_labels_of_one_name(tmp_path: Path, label: str):
    files = {}
    for k, pixels in enumerate(PIXELS):
        files[f"set/{k:04}.png"] = png(pixels)
        files[f"set/{k:04}{label}"] = str(k % 3).encode() if label == ".cls" else json.dumps({"label": k % 3}).encode()
        files[f"set/{k:04}.txt"] = b"something else"
    found = data.load(str(tar(tmp_path / "s.tar", files)))
    x, y = whole(found)
    assert (found.shape, len(found), found.classes) == ((3, 6, 6), 7, ["0", "1", "2"])
    assert np.array_equal((x * 255).round(), PIXELS.transpose(0, 3, 1, 2))
    assert y == [0, 1, 2, 0, 1, 2, 0]
    assert len(next(found.batches(2, 5)).x) == 2


def test_images_without_a_label_and_labels_without_an_image_are_no_examples(tmp_path: Path):
    files = {"0.png": png(PIXELS[0]), "1.cls": b"1", "2.png": png(PIXELS[2]), "2.cls": b" 1\n"}
    x, y = whole(data.load(str(tar(tmp_path / "s.tar", files))))
    assert (len(x), y) == (1, [1])


def test_the_tars_that_advgan_writes_are_read(command: Advgan):
    ended = command("dataset", "--format", "webdataset", "-n", "12", "-a", "fgsm", "-t", "linf:0.1", "-o", "set")
    assert ended.status == 0, ended.err
    (shard,) = Path("set").rglob("*.tar")
    found = data.load(str(shard))
    assert (len(found), found.shape) == (12, (1, 8, 8))


# -- Hugging Face --


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    import datasets

    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = {"img": [{"bytes": png(pixels), "path": None} for pixels in PIXELS], "label": [0, 1, 1, 0, 1, 0, 0]}
    made = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"test": made, "train": made.select([1, 2])}).save_to_disk(tmp_path / "set")
    made.save_to_disk(tmp_path / "alone")
    return tmp_path


def test_a_saved_set_is_read_split_by_split(saved: Path):
    found = data.load(f"hf:{saved / 'set'}")
    x, y = whole(found)
    assert (found.classes, y) == (["cat", "dog"], [0, 1, 1, 0, 1, 0, 0])
    assert np.array_equal((x * 255).round(), PIXELS.transpose(0, 3, 1, 2))
    assert whole(data.load(f"hf:{saved / 'set'}:train"))[1] == [1, 1]
    assert whole(data.load(f"hf:{saved / 'set'}", training=True))[1] == [1, 1]
    assert len(data.load(f"hf:{saved / 'alone'}")) == 7
    assert data.load(f"hf:{saved / 'alone'}", image_size=4).shape == (3, 4, 4)


def test_a_set_of_the_hub_is_asked_for_by_name_configuration_and_split(saved: Path, monkeypatch: pytest.MonkeyPatch):
    import datasets

    asked = []
    made = datasets.load_from_disk(str(saved / "alone"))
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: asked.append((*a, k)) or made)
    for spec in ("hf:some/set", "hf:some/set:validation", "hf:some/set:plain:train"):
        assert len(data.load(spec)) == 7
    assert asked == [
        ("some/set", None, {"split": "test"}),
        ("some/set", None, {"split": "validation"}),
        ("some/set", "plain", {"split": "train"}),
    ]


def test_a_saved_set_that_cannot_be_used_is_explained(saved: Path, monkeypatch: pytest.MonkeyPatch):
    import datasets

    datasets.Dataset.from_dict({"text": ["a"], "label": [0]}).save_to_disk(saved / "text")
    (saved / "empty").mkdir()
    for spec, said in [
        (f"hf:{saved / 'set'}:tset", "Did you mean 'test'"),
        (f"hf:{saved / 'text'}", "one of images and one of labels"),
        (f"hf:{saved / 'empty'}", "no set that save_to_disk wrote"),
        ("hf:", "write hf:PLACE"),
        ("hf:a:b:c:d", "write hf:PLACE"),
    ]:
        with pytest.raises(InputError, match=said):
            data.load(spec)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"needs datasets.*pip install"):
        data.load("hf:some/set")
