"""Adversarial data sets: what is written, what is promised of it, and what is refused."""

import csv
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder

import reports.dataset
from attacks.errors import InputError
from attacks.models import FromCallable
from reports import zoo
from reports.dataset import Manifest, make, verify
from reports.dataset.asked import FORMATS, Asked, slug
from reports.dataset.card import plain
from reports.dataset.shards import COLUMNS
from reports.sources.data import Dataset, from_arrays

CLASSES = ["a/../../b", "<b>bold</b>", "A b", "a b", "..", "", "7", "|", "nul", "é"]


def digits(n: int = 40, classes: list[str] | None = None) -> Dataset:
    x, y = zoo.held_out()
    return from_arrays(x[:n], y[:n], classes=classes, name="digits")


def made(out: Path, data: Dataset | None = None, model: nn.Module | None = None, **options: Any) -> Manifest:
    given = {"threats": ["linf:0.1"], "attacks": ["pgd:steps=5,share=0.3"], "shard": 16, **options}
    asked = Asked.of(given.pop("threats"), given.pop("attacks"), **given)
    return make("digits_standard", model or zoo.load()["digits_standard"], data or digits(), asked, out)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("format_", FORMATS)
def test_every_row_is_verified_and_a_plain_pass_over_the_opened_set_agrees(tmp_path: Path, format_: str):
    manifest = made(
        tmp_path / "set",
        format=format_,
        threats=["linf:0.1", "l2:0.6"],
        attacks=["pgd:steps=5", "fmn:steps=20"],
        pairs=True,
    )
    data = reports.dataset.open(tmp_path / "set", clean=True)
    assert len(data) == 4 * 40 == sum(manifest.about["shards"])
    assert data.rows.verified.all()
    model, clean = zoo.load()["digits_standard"], torch.cat([b.x for b in digits().batches(None, 64)])
    x, labels, pairs = next(iter(DataLoader(data, batch_size=len(data))))
    assert torch.equal(pairs, clean[torch.tensor(data.rows.id.to_numpy())])
    assert np.array_equal(labels.numpy(), data.rows.label.to_numpy())
    with torch.no_grad():
        prediction = model(x).argmax(1).numpy()
    assert np.array_equal(prediction, data.rows.prediction.to_numpy())
    wrong = prediction != labels.numpy()
    assert np.array_equal(wrong, data.rows.outcome.isin(["fooled", "already"]).to_numpy())
    assert (data.rows.outcome == "fooled").sum() > 40
    levels = (x.double() * 255 - (pairs.double() * 255).round()).flatten(1).numpy()
    assert np.abs(levels - levels.round()).max() < 1e-4
    linf, l2 = np.abs(levels.round()).max(1), np.linalg.norm(levels.round(), axis=1)
    is_linf = (data.rows.threat == "linf:0.1").to_numpy()
    assert (linf[is_linf] <= 25.5).all()
    assert (l2[~is_linf] <= 0.6 * 255).all()
    assert np.allclose(np.where(is_linf, linf, l2) / 255, data.rows["size"])


def test_what_the_manifest_counts_is_what_the_rows_say(tmp_path: Path):
    manifest = made(tmp_path / "set", threats=["linf:0.1", "l2:0.6"])
    rows = reports.dataset.open(tmp_path / "set").rows
    for run in manifest.about["runs"]:
        mine = rows[(rows.threat == run["threat"]) & (rows.attack == run["attack"])]
        for outcome in ("fooled", "already", "stands", "lost"):
            assert run[outcome] == (mine.outcome == outcome).sum()
        assert run["examples"] == run["rows"] == len(mine) == 40
        assert run["correct"] == (mine.clean_prediction == mine.label).sum()
        assert run["size"]["median"] == float(np.median(mine.loc[mine.outcome == "fooled", "size"]))
    assert [run["attack"] for run in manifest.about["runs"]] == ["pgd", "pgd"]
    assert manifest.about["configuration"]["attacks"]["pgd"]["steps"] == 5


@pytest.mark.parametrize("format_", FORMATS)
def test_the_same_set_is_written_in_the_same_bytes_but_for_the_clock(tmp_path: Path, format_: str):
    for name in ("a", "b"):
        made(tmp_path / name, digits(20), format=format_, pairs=True)
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] in ([], ["timings.json"])
    told = json.loads(first["manifest.json"])["files"]
    assert set(told) == set(first) - {"manifest.json", "timings.json"}


def test_only_successes_pairs_and_targets_are_what_was_asked(tmp_path: Path):
    manifest = made(tmp_path / "set", target="next", successes=True, threats=["linf:0.2"])
    rows = reports.dataset.open(tmp_path / "set").rows
    assert len(rows) > 5
    assert (rows.outcome == "fooled").all()
    assert (rows.prediction == rows.target).all()
    assert (rows.target == (rows.label + 1) % 10).all()
    assert manifest.about["runs"][0]["examples"] == 40
    assert manifest.about["runs"][0]["rows"] == len(rows)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("options", [{"successes": True, "threats": ["linf:0.001"]}, {"target": "0"}])
def test_a_shard_without_rows_is_a_shard(tmp_path: Path, format_: str, options: dict[str, Any]):
    x, y = zoo.held_out()
    data = from_arrays(x[:20], y[:20] * 0 if "target" in options else y[:20], name="few")
    if "target" not in options:
        data = from_arrays(x[:20], zoo.load()["digits_standard"](x[:20]).argmax(1).detach(), name="few")
    manifest = made(tmp_path / "set", data, format=format_, pairs=True, **options)
    assert manifest.about["shards"] == [0, 0]
    assert manifest.about["runs"][0]["size"] == {}
    assert len(reports.dataset.open(tmp_path / "set")) == 0
    assert verify(tmp_path / "set", zoo.load()["digits_standard"], data).passed


@pytest.mark.parametrize("target", ["random", "least-likely", "3"])
def test_a_target_is_never_the_label_and_does_not_depend_on_the_shard(tmp_path: Path, target: str):
    found = []
    for shard in (7, 40):
        made(tmp_path / str(shard), target=target, shard=shard, attacks=["fgsm"])
        found.append(reports.dataset.open(tmp_path / str(shard)).rows)
    assert found[0].target.equals(found[1].target)
    assert (found[0].target != found[0].label).all()
    if target == "3":
        assert (found[0].target == 3).all()
        assert len(found[0]) == 40 - int((zoo.held_out()[1][:40] == 3).sum())
    if target == "random":
        assert found[0].target.nunique() > 5


def test_a_target_that_the_model_does_not_have_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"target is class 10; the model has 10, 0 to 9"):
        made(tmp_path / "set", target="10")
    assert not (tmp_path / "set").exists()


# other people's readers


def test_pandas_and_datasets_read_the_parquet_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made(tmp_path / "set", pairs=True)
    files = sorted(str(path) for path in (tmp_path / "set" / "data").glob("*.parquet"))
    frame = pd.concat([pd.read_parquet(path) for path in files], ignore_index=True)
    ours = reports.dataset.open(tmp_path / "set")
    assert list(frame.columns) == ["image", "clean", *COLUMNS]
    image = np.asarray(Image.open(io.BytesIO(frame.image[5]["bytes"])))
    assert np.array_equal(image, (ours[5][0][0].numpy() * 255).round().astype(np.uint8))

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="no datasets: it comes with the extra 'hub'")
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.features["label"].names == [str(k) for k in range(10)]
    assert len(loaded) == len(frame)
    assert np.array_equal(np.asarray(loaded[5]["image"]), image)
    assert loaded[5]["outcome"] == frame.outcome[5]


def test_our_own_audit_reads_the_parquet_and_npz_files(tmp_path: Path):
    from reports.sources.data import load

    for format_ in ("parquet", "npz"):
        made(tmp_path / format_, format=format_, shard=100)
        batch = next(load(str(next((tmp_path / format_ / "data").iterdir()))).batches(None, 64))
        ours = reports.dataset.open(tmp_path / format_)
        assert torch.equal(batch.x, torch.stack([ours[k][0] for k in range(40)]))


def test_image_folder_reads_the_images_and_metadata_names_each_of_them(tmp_path: Path):
    made(tmp_path / "set", format="imagefolder", data=digits(classes=CLASSES), pairs=True)
    folder = ImageFolder(str(tmp_path / "set" / "images"))
    with (tmp_path / "set/images/metadata.csv").open(encoding="utf-8") as file:
        rows = {row["file_name"]: row for row in csv.DictReader(file)}
    assert len(folder) == len(rows) == 40
    for path, _ in folder.samples:
        name = str(Path(path).relative_to(tmp_path / "set" / "images"))
        assert int(name.partition("-")[0]) == int(rows[name]["label"])
    assert len(ImageFolder(str(tmp_path / "set" / "clean"))) == 40


def test_labels_are_right_where_a_class_has_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from reports.sources.data import load

    x, y = (part[torch.isin(zoo.held_out()[1], torch.tensor([2, 5, 7]))][:12] for part in zoo.held_out())
    made(tmp_path / "set", format="imagefolder", data=from_arrays(x, y, name="three of ten"))
    monkeypatch.chdir(tmp_path / "set")
    code = Path("README.md").read_text(encoding="utf-8").partition("```python\n")[2].partition("import reports")[0]
    exec(code, named := {})
    rows = pd.read_csv("images/metadata.csv").set_index("file_name").label
    for k, (path, _) in enumerate(named["images"].samples):
        assert named["images"][k][1] == rows[path.removeprefix("images/")]
    source = load("images")
    labels = torch.cat([batch.labels for batch in source.batches(None, 5)])
    assert sorted(labels.tolist()) == sorted(y.tolist())
    assert [source.classes[label] for label in (2, 3, 5, 7)] == ["2-2", "3", "5-5", "7-7"]


def test_a_tar_shard_holds_each_example_under_one_key(tmp_path: Path):
    made(tmp_path / "set", format="webdataset", shard=100)
    with tarfile.open(tmp_path / "set/data/shard-00000.tar") as archive:
        members = archive.getmembers()
        names = [member.name for member in members]
        assert {member.mtime for member in members} == {0}
        assert names[:3] == [f"0000000-linf-0-1-pgd{end}" for end in (".png", ".cls", ".json")]
        row = json.loads(archive.extractfile(names[2]).read())  # type: ignore[union-attr]
    assert (row["id"], row["label"], row["attack"]) == (0, int(zoo.held_out()[1][0]), "pgd")
    assert len(names) == 3 * 40


# names


def test_names_that_climb_collide_or_hold_markup_stay_names(tmp_path: Path):
    made(
        tmp_path / "set",
        format="imagefolder",
        data=digits(classes=CLASSES),
        attacks=["pgd:steps=5", "pgd:steps=5,share=0.1"],
    )
    assert {path.name for path in tmp_path.iterdir()} == {"set"}
    manifest = Manifest.load(tmp_path / "set")
    names = [run["name"] for run in manifest.about["runs"]]
    assert len(set(names)) == 2
    assert manifest.layout.classes == CLASSES
    folders = sorted(path.name for path in (tmp_path / "set/images").iterdir() if path.is_dir())
    assert [name[0] for name in folders] == [str(k) for k in range(10)]
    card = (tmp_path / "set/README.md").read_text(encoding="utf-8")
    assert "<b>" not in card
    assert plain("<b>bold</b>") in card


@pytest.mark.parametrize("text", ["../../etc", "a/b", "", "....", "x" * 500, "con\n| x", "linf:8/255"])
def test_a_slug_is_fit_for_any_file_system(text: str):
    assert 1 <= len(slug(text)) <= 40
    assert not set(slug(text)) & set("./\\\n| :")


# lossy, and not on the grid


def test_jpeg_says_what_it_lost(tmp_path: Path):
    manifest = made(tmp_path / "set", encoding="jpeg")
    run, rows = manifest.about["runs"][0], reports.dataset.open(tmp_path / "set").rows
    assert run["found"] > 5
    assert run["fooled"] == (rows.outcome == "fooled").sum() <= run["found"]
    assert run["outside"] == ((rows.outcome == "fooled") & ~rows.inside).sum() > 0
    assert not rows.verified[~rows.inside].any()
    assert "JPEG is lossy" in (tmp_path / "set/README.md").read_text()
    assert verify(tmp_path / "set", zoo.load()["digits_standard"], digits()).passed


def test_inputs_between_the_levels_are_kept_as_floats_and_refused_as_images(tmp_path: Path):
    x, y = zoo.held_out()
    data = from_arrays(x[:20] * 0.999, y[:20], name="between")
    with pytest.raises(InputError, match=r"not 8-bit.*--format npz --encoding float32"):
        made(tmp_path / "png", data)
    manifest = made(tmp_path / "set", data, format="npz")
    assert manifest.layout.encoding == "float32"
    opened = reports.dataset.open(tmp_path / "set")
    assert opened.rows.verified.all()
    assert bool((opened[0][0] * 255 % 1 != 0).any())
    assert verify(tmp_path / "set", zoo.load()["digits_standard"], data).passed


def test_vectors_are_kept_as_arrays_and_refused_as_images(tmp_path: Path):
    x, y = zoo.held_out()
    data = from_arrays(x[:20].flatten(1), y[:20], name="vectors")
    model = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), zoo.load()["digits_standard"])
    for format_ in ("parquet", "imagefolder", "webdataset"):
        with pytest.raises(InputError, match=r"holds images, and these are inputs of shape \[64\]"):
            made(tmp_path / format_, data, model, format=format_)
    manifest = made(tmp_path / "set", data, model, format="npz")
    assert manifest.layout.encoding == "uint8"
    assert verify(tmp_path / "set", model, data).passed


def test_a_model_without_gradients_gets_a_set_from_an_attack_by_decisions(tmp_path: Path):
    inner = zoo.load()["digits_standard"]

    def decide(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return inner(torch.from_numpy(x)).numpy()

    manifest = made(
        tmp_path / "set", digits(10), FromCallable(decide), attacks=["square:queries=100"], threats=["linf:0.2"]
    )
    run = manifest.about["runs"][0]
    assert run["fooled"] > 0
    assert run["lost"] <= 1
    assert run["backwards"] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "png"}, "Known: parquet, imagefolder, npz, webdataset"),
        ({"format": "npz", "encoding": "png"}, "does not hold png: it has uint8 and float32"),
        ({"encoding": "float32"}, "Formats with float32: npz"),
        ({"target": "nearest"}, "random, next, least-likely"),
        ({"threats": []}, "No threat is named"),
        ({"threats": ["l2:1", "L2:1 "]}, "there twice"),
        ({"attacks": ["pgt"]}, "Did you mean"),
        ({"shard": 0}, "at least one example"),
        ({"seed": -1}, "whole number from 0"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_attacked(tmp_path: Path, options: dict, said: str):
    with pytest.raises(InputError, match=said):
        made(tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()


# verification


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "set"
    made(folder)
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(whole, tmp_path / "set"))


def checked(folder: Path) -> list[str]:
    out = verify(folder, zoo.load()["digits_standard"], digits())
    return [f"{problem.where}: {problem.what}" for problem in out.problems]


def changed(folder: Path, change: Any) -> None:
    """Shard 0 with other rows or images, and a manifest that knows the new file."""
    from reports.dataset.shards import Shard, read_shard, write_shard
    from reports.resume import sha256

    manifest = Manifest.load(folder)
    shard = read_shard(folder, 0, manifest.layout)
    rows, x = change(shard.rows.copy(), shard.x.copy())
    (file,) = write_shard(folder, 0, Shard(rows, x, None), manifest.layout)
    about = manifest.about
    about["files"][file] = sha256(folder / file)
    (folder / "manifest.json").write_text(json.dumps(about))


def test_a_set_as_it_was_written_passes(whole: Path):
    assert checked(whole) == []
    unchecked = verify(whole)
    assert unchecked.passed
    assert "not checked" in unchecked.checked["claims"]
    assert "not checked" in unchecked.checked["ball"]


def test_a_row_that_left_the_ball_is_named(copy: Path):
    def move(rows: pd.DataFrame, x: np.ndarray):
        x[3] = np.where(x[3] > 100, x[3] - 60, x[3] + 60)
        return rows, x

    changed(copy, move)
    told = checked(copy)
    assert any(line.startswith("0000003-linf-0-1-pgd: lies outside the ball") for line in told)
    assert all(line.startswith("0000003") for line in told)


def test_a_row_that_no_longer_fools_is_named(copy: Path):
    at = int(np.flatnonzero(reports.dataset.open(copy).rows.outcome[:16] == "fooled")[0])

    def back(rows: pd.DataFrame, x: np.ndarray):
        x[at] = (digits().read(16, 16).__next__()[0][at] * 255).round()
        return rows, x

    changed(copy, back)
    assert any(line.startswith(f"{at:07d}-linf-0-1-pgd: no longer fools the model") for line in checked(copy))


def test_a_claim_that_is_false_is_named(copy: Path):
    def lie(rows: pd.DataFrame, x: np.ndarray):
        rows.loc[2, "size"] += 0.01
        return rows, x

    changed(copy, lie)
    (line,) = checked(copy)
    assert line.startswith("0000002-linf-0-1-pgd: is of size")


def test_files_that_changed_are_cut_short_or_are_missing_are_named(copy: Path):
    shard = copy / "data" / "shard-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    (copy / "contact_sheet.png").unlink()
    told = "\n".join(checked(copy))
    assert "data/shard-00001.parquet: has changed" in told
    assert "cannot be read" in told
    assert "contact_sheet.png: is missing" in told


def test_other_weights_and_another_source_are_named(whole: Path):
    other = verify(whole, zoo.load()["digits_robust"], digits())
    assert other.problems[0].where == "model"
    x, y = zoo.held_out()
    moved = verify(whole, None, from_arrays(x[40:80], y[40:80], name="digits"))
    assert any(problem.where == "data" for problem in moved.problems)


def test_a_model_or_a_source_that_does_not_fit_is_refused(whole: Path):
    with pytest.raises(InputError, match=r"does not fit \[1, 8, 8\]"):
        verify(whole, nn.Sequential(nn.Flatten(), nn.Linear(36, 10)))
    with pytest.raises(InputError, match=r"shape \[1, 6, 6\]"):
        verify(whole, None, from_arrays(torch.rand(50, 1, 6, 6), torch.zeros(50, dtype=torch.int64)))
    with pytest.raises(InputError, match="has 10 examples, the set was made of 40"):
        verify(whole, None, digits(10))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "holds no manifest.json"),
        ('{"format": 2}', "format 2, this version reads 1"),
        ("{", "cannot be read"),
        ("[]", "not the manifest"),
        ('{"format": 1}', "lacks configuration"),
    ],
)
def test_what_is_no_finished_set_of_this_format_is_refused(copy: Path, content: str | None, said: str):
    (copy / "manifest.json").unlink()
    if content is not None:
        (copy / "manifest.json").write_text(content)
    for read in (verify, reports.dataset.open):
        with pytest.raises(InputError, match=said):
            read(copy)


def test_a_manifest_that_names_files_elsewhere_reads_none_of_them(copy: Path):
    manifest = Manifest.load(copy).about
    manifest["files"]["../../etc/passwd"] = "0" * 64
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert "../../etc/passwd: lies outside the set's folder" in checked(copy)


# opening


def test_rows_are_chosen_by_what_is_known_of_them(whole: Path):
    data = reports.dataset.open(whole)
    fooled = Subset(data, np.flatnonzero(data.rows.outcome == "fooled").tolist())
    assert 5 < len(fooled) < len(data)
    assert torch.equal(data[-1][0], data[len(data) - 1][0])
    with pytest.raises(IndexError):
        data[len(data)]
    with pytest.raises(InputError, match="--pairs"):
        reports.dataset.open(whole, clean=True)


def test_worker_processes_read_for_themselves(whole: Path):
    import pickle

    data = reports.dataset.open(whole)
    again = pickle.loads(pickle.dumps(data))
    assert torch.equal(again[17][0], data[17][0])


def test_a_shuffled_pass_reads_each_shard_once_where_they_fit_and_no_more_are_kept(tmp_path: Path, monkeypatch):
    made(tmp_path / "set", data=digits(25), shard=1, pairs=True)

    data = reports.dataset.open(tmp_path / "set")
    x = torch.stack([data[k][0] for k in range(25)])
    for k in 2 * torch.randperm(25, generator=torch.Generator().manual_seed(0)).tolist():
        assert torch.equal(data[k][0], x[k])
        assert data[k][1] == data.rows.label[k]
    assert data._shard.cache_info().misses == 25
    monkeypatch.setattr("reports.dataset.loader.AT_HAND", 3 * 2 * 64)
    assert reports.dataset.open(tmp_path / "set")._shard.cache_info().maxsize == 3  # of 8 x 8 and their clean ones


# outside models and images

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.skipif(not SHARED.is_dir(), reason="peer: the folder of outside models and data is not here")
def test_a_set_of_cifar_images_is_opened_by_pandas_datasets_and_image_folder(tmp_path, monkeypatch):
    from reports.sources import data, models

    model = models.load(f"{SHARED}/models.py:resnet20")["resnet20"]
    source = data.load(str(SHARED / "cifar10_jpeg_test.parquet"))
    threats, runs = ["linf:8/255", "l2:0.5"], ["apgd:steps=10"]
    for format_ in ("parquet", "imagefolder"):
        asked = Asked.of(threats, runs, format=format_, shard=8)
        manifest = make("resnet20", model, source, asked, tmp_path / format_, examples=12)
        assert [run["lost"] + run["unverified"] for run in manifest.about["runs"]] == [0, 0]
        assert verify(tmp_path / format_, model, source).passed
    rows = reports.dataset.open(tmp_path / "parquet").rows
    assert (rows.outcome == "fooled").sum() >= 12

    files = sorted(str(path) for path in (tmp_path / "parquet/data").glob("*.parquet"))
    frame = pd.concat([pd.read_parquet(path) for path in files], ignore_index=True)
    assert frame.outcome.tolist() == rows.outcome.tolist()
    folder = ImageFolder(str(tmp_path / "imagefolder/images"))
    assert len(folder) == len(frame) == 24
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="no datasets: it comes with the extra 'hub'")
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    image = np.asarray(Image.open(io.BytesIO(frame.image[9]["bytes"])))
    assert np.array_equal(np.asarray(loaded[9]["image"]), image)
    name = f"{rows.label[9]}-{source.classes[rows.label[9]]}/{frame.image[9]['path']}"
    assert np.array_equal(np.asarray(Image.open(tmp_path / "imagefolder/images" / name)), image)
