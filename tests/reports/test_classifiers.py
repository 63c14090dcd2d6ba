"""Models of other libraries: each is the model that its library would run, and says what was folded in."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from attacks import Access
from attacks.errors import InputError
from attacks.models import FromCallable, LogProbabilities, Normalized, Resized
from reports.sources import models
from reports.sources.told import access_of, told

pytestmark = pytest.mark.filterwarnings(
    r"ignore:`torch\.jit\.(script|trace|trace_method|save)` is (deprecated|not supported):FutureWarning",
    r"ignore:`torch\.jit\.(script|trace|trace_method|save)` is (deprecated|not supported):DeprecationWarning",
)
X = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)]
    return nn.Sequential(*layers).eval()


def the_one(spec: str, **options: Path) -> nn.Module:
    (model,) = models.load(spec, **options).values()
    assert not model.training
    return model


def gradient(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(model(leaf).square().sum(), leaf)[0]


def same(model: nn.Module, other: nn.Module, x: torch.Tensor = X) -> None:
    torch.testing.assert_close(model(x), other(x))
    torch.testing.assert_close(gradient(model, x), gradient(other, x))


# -- Resized --


@pytest.mark.parametrize(("mode", "pillow"), [("bilinear", Image.Resampling.BILINEAR), ("bicubic", 3)])
@pytest.mark.parametrize(("size", "crop", "ratio"), [((6, 6), None, (6, 6)), (8, (6, 6), (8, 10)), ((16, 20), None, 0)])
def test_resized_does_what_pillow_does(mode: str, pillow: int, size, crop, ratio):
    pixels = np.random.default_rng(0).integers(64, 192, (12, 15), dtype=np.uint8)  # bicubic overshoots
    image = Image.fromarray(pixels)
    height, width = ratio or size
    wanted = np.asarray(image.resize((width, height), pillow), dtype=np.float32)
    if crop:
        wanted = wanted[1:7, 2:8]
    given = Resized(nn.Identity(), size, crop, mode)(torch.from_numpy(pixels)[None, None].float() / 255)
    assert np.abs(given[0, 0].numpy() * 255 - wanted).max() < 1.01  # Pillow rounds to levels twice


def test_images_of_the_right_size_are_left_alone_and_gradients_flow_through_others():
    model = Resized(nn.Identity(), 10, (8, 8))
    assert torch.equal(model(X), X)
    assert (gradient(Resized(net(), (9, 9)), X) != 0).any(1).all()


# -- timm --


def tiny_timm(tmp_path: Path, name: str) -> tuple[Any, Path]:
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=7).eval()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    return model, tmp_path / "w.safetensors"


def test_a_timm_model_takes_its_classes_from_the_weights_and_has_its_normalisation_folded_in(tmp_path: Path):
    own, weights = tiny_timm(tmp_path, "test_resnet")
    model = the_one("timm:test_resnet", weights=weights)
    x = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(own.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
    torch.testing.assert_close(model(x), own((x - mean) / std))
    assert model(x).shape == (2, 7)
    assert "normalisation folded in: mean 0.5, 0.5, 0.5" in told(model)[0]
    assert access_of(model) is Access.GRADIENT


def test_a_timm_model_of_one_size_has_it_folded_in(tmp_path: Path):
    own, weights = tiny_timm(tmp_path, "test_vit")
    model = the_one("timm:test_vit", weights=weights)
    side = own.pretrained_cfg["input_size"][1]
    assert isinstance(model, Resized)
    assert model(torch.rand(1, 3, 40, 40)).shape == (1, 7)
    assert f"the centre {side} x {side}" in told(model)[0]


def test_a_timm_model_that_is_not_there_or_does_not_fit_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import timm

    _, weights = tiny_timm(tmp_path, "test_resnet")
    with pytest.raises(InputError, match="Did you mean 'resnet18'"):
        models.load("timm:resnett18")
    with pytest.raises(InputError, match=r"lacks head\.bias|does not fit"):
        models.load("timm:test_vit", weights=weights)

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(InputError, match=r"could not be fetched .no network.*--weights"):
        models.load("timm:test_resnet")


# -- transformers --


def saved(folder: Path, processor: dict, side: int = 16) -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    sizes: Any = {
        "num_labels": 3,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    model = ViTForImageClassification(ViTConfig(**sizes, image_size=side, patch_size=8)).eval()
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "ViTImageProcessor"} | processor)
    )
    return model


MEANS = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
PROCESSORS = {
    "ViT": {"size": {"height": 16, "width": 16}},
    "MobileNetV2": {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 16}},
    "ConvNext": {"size": {"shortest_edge": 16}, "crop_pct": 0.8},
    "EfficientNet": {"size": {"height": 16, "width": 16}, "rescale_offset": True, "rescale_factor": 1 / 127.5},
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_transformers_model_gives_what_it_gives_behind_its_own_processor(tmp_path: Path, name: str):
    from transformers import AutoImageProcessor

    own = saved(tmp_path / "net", {"image_processor_type": f"{name}ImageProcessor", **MEANS, **PROCESSORS[name]})
    process = AutoImageProcessor.from_pretrained(tmp_path / "net")
    coarse = torch.rand(3, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    images = (nn.functional.interpolate(coarse, (32, 40), mode="bilinear") * 255).round().to(torch.uint8)
    wanted = own(**process(list(images.numpy()), return_tensors="pt")).logits
    model = the_one(f"hf:{tmp_path / 'net'}")
    spread = wanted.max() - wanted.min()
    assert (model(images / 255) - wanted).abs().max() < 0.02 * spread  # it rounds to levels after resizing
    assert "resizing folded in" in told(model)[0]


def test_images_of_a_transformers_models_own_size_go_in_as_they_are(tmp_path: Path):
    from transformers import AutoImageProcessor

    own = saved(tmp_path / "vit", {**MEANS, **PROCESSORS["ViT"]})
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    processed = AutoImageProcessor.from_pretrained(tmp_path / "vit")(list(images.numpy()), return_tensors="pt")
    model = the_one(f"hf:{tmp_path / 'vit'}")
    torch.testing.assert_close(model(images / 255), own(**processed).logits, rtol=0, atol=1e-5)
    sentences = told(model)
    assert "16 x 16" in sentences[0]
    assert "mean 0.5, 0.4, 0.3, deviation 0.2, 0.3, 0.4" in sentences[1]
    assert list(models.load(f"hf:{tmp_path / 'vit'}")) == ["vit"]


def test_a_processor_that_does_not_scale_leaves_levels_and_one_without_resizing_any_size(tmp_path: Path):
    own = saved(tmp_path / "vit", {"do_rescale": False, "do_normalize": False, "do_resize": False})
    model = the_one(f"hf:{tmp_path / 'vit'}")
    x = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(model(x), own(pixel_values=255 * x).logits)


@pytest.mark.parametrize(
    "how", ["no safetensors", "truncated", "other labels", "no folder", "odd processor", "no json"]
)
def test_a_transformers_folder_that_cannot_be_used_is_explained(tmp_path: Path, how: str):
    folder = tmp_path / "vit"
    saved(folder, {"do_pad": True} if how == "odd processor" else {})
    weights = folder / "model.safetensors"
    if how == "no safetensors":
        torch.save({}, folder / "pytorch_model.bin")
        weights.unlink()
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[:200])
    if how == "other labels":
        config = json.loads((folder / "config.json").read_text())
        config |= {"id2label": {str(k): str(k) for k in range(9)}, "label2id": {str(k): k for k in range(9)}}
        (folder / "config.json").write_text(json.dumps(config))
    if how == "no json":
        (folder / "config.json").write_text("{")
    said = {
        "no safetensors": "holds no safetensors",
        "other labels": "do not fit|size mismatch|cannot be loaded",
        "no folder": "There is no folder",
        "odd processor": "does do_pad",
    }
    with pytest.raises(InputError, match=said.get(how, "cannot be loaded")):
        models.load(f"hf:{tmp_path}/gone/vit" if how == "no folder" else f"hf:{folder}")


def test_code_that_comes_with_a_transformers_model_is_not_run(tmp_path: Path):
    folder = tmp_path / "vit"
    saved(folder, {})
    ran = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "evil.Config", "AutoModelForImageClassification": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "evil", "auto_map": auto}))
    with pytest.raises(InputError, match="is not run"):
        models.load(f"hf:{folder}")
    assert not ran.exists()


# -- ONNX --


def onnx_file(
    path: Path, batch: str | int = "b", softmax: bool = False, operator: str | None = None, opset: int = 17
) -> np.ndarray:
    """A linear classifier of X, its weights behind an Identity, with `operator` at its end; gives the weights [192, 5]."""
    weight = np.random.default_rng(0).normal(size=(192, 5)).astype(np.float32)
    nodes = [
        helper.make_node("Identity", ["stored"], ["shared"]),
        helper.make_node("Identity", ["shared"], ["w"]),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["scores"]),
    ]
    end = "scores"
    if softmax:
        nodes.append(helper.make_node("Softmax", ["scores"], ["shares"]))
        end = "shares"
    if operator:
        nodes.append(helper.make_node(operator, [end], ["odd"]))
        end = "odd"
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])
    found = helper.make_tensor_value_info(end, TensorProto.FLOAT, [batch, 5])
    graph = helper.make_graph(nodes, "linear", [given], [found], [numpy_helper.from_array(weight, "stored")])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(made, path)
    return weight


@pytest.mark.parametrize("opset", [13, 17, 20])
def test_an_onnx_file_gives_gradients_where_it_can_be_converted(tmp_path: Path, opset: int):
    weight = torch.from_numpy(onnx_file(tmp_path / "n.onnx", opset=opset))
    same(the_one(f"onnx:{tmp_path}/n.onnx"), FromTorch(weight))
    assert access_of(the_one(f"onnx:{tmp_path}/n.onnx")) is Access.GRADIENT
    assert "onnx2torch: gradients flow" in told(the_one(f"onnx:{tmp_path}/n.onnx"))[0]


class FromTorch(nn.Module):
    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.weight = weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) @ self.weight


def test_a_softmax_at_the_end_of_an_onnx_file_is_taken_off(tmp_path: Path):
    weight = torch.from_numpy(onnx_file(tmp_path / "n.onnx", softmax=True))
    model = the_one(f"onnx:{tmp_path}/n.onnx")
    same(model, FromTorch(weight))
    assert "less its last softmax" in told(model)[0]


@pytest.mark.parametrize("softmax", [False, True])
def test_an_onnx_file_that_cannot_be_converted_gives_its_scores_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, softmax: bool
):
    weight = torch.from_numpy(onnx_file(tmp_path / "n.onnx", softmax=softmax, operator=None if softmax else "Shrink"))
    import onnx2torch

    if softmax:
        monkeypatch.setattr(onnx2torch, "convert", lambda _: nn.Flatten())
    model = the_one(f"onnx:{tmp_path}/n.onnx")
    assert access_of(model) is Access.SCORES
    assert isinstance(model, LogProbabilities if softmax else FromCallable)
    wanted = (X.flatten(1) @ weight).log_softmax(1) if softmax else nn.functional.hardshrink(X.flatten(1) @ weight)
    torch.testing.assert_close(model(X), wanted, rtol=1e-4, atol=1e-4)
    assert "no gradients (onnxruntime runs it; it was not converted, opset 17 may be:" in " ".join(told(model))


# -- TorchScript and torch.export --


def test_a_torchscript_program_is_the_module_it_was_made_of(tmp_path: Path):
    deep = nn.Sequential(nn.Sequential(nn.Identity(), nn.Sequential(*net()[:3])), *net()[3:]).eval()
    for each in (net(), deep):
        torch.jit.save(torch.jit.script(each), tmp_path / "n.pt")
        same(the_one(f"torchscript:{tmp_path}/n.pt"), net())


def test_an_exported_program_is_the_module_it_was_made_of(tmp_path: Path):
    batch = torch.export.Dim("b", min=1, max=4096)
    program = torch.export.export(net(), (X,), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "n.pt2")
    model = the_one(f"export:{tmp_path}/n.pt2")
    same(model, net())
    same(model, net(), X[:1])


class Odd(nn.Module):
    """Names with underscores, sizes in the graph, operators of more kinds."""

    def __init__(self):
        super().__init__()
        self._inner__ = nn.ModuleDict({"a__b": nn.Linear(64, 6)})
        self.shift = nn.Parameter(torch.arange(3.0).view(3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([x + self.shift, x[:, :, ::2, ::2].repeat(1, 1, 2, 2)], 1)
        x = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear").softmax(1).mean(1)
        x = x.reshape(x.shape[0] * 2, x.shape[1] * x.shape[2] // 2)
        x = nn.functional.gelu(self._inner__["a__b"](x[:, :64])).mul_(2.0)
        return x.reshape(-1, 12).masked_fill((x.reshape(-1, 12) > 0.5) & (x.reshape(-1, 12) < 0.6), 0.5)


def test_odd_programs_are_not_taken_for_hostile_ones(tmp_path: Path):
    torch.manual_seed(0)
    odd = Odd().eval()
    program = torch.export.export(odd, (X,), dynamic_shapes=({0: torch.export.Dim("b", min=1, max=4096)},))
    torch.export.save(program, tmp_path / "n.pt2")
    same(the_one(f"export:{tmp_path}/n.pt2"), odd)
    torch.jit.save(torch.jit.trace(odd, X, check_trace=False), tmp_path / "n.pt")
    same(the_one(f"torchscript:{tmp_path}/n.pt"), odd)


# -- Python --

PY = """
import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeClassifier

x = np.random.default_rng(0).normal(size=(60, 4))
y = np.array(["no", "yes"])[(x[:, 0] > 0).astype(int)]

def estimator():
    return LogisticRegression().fit(x, y)

def decides():
    return RidgeClassifier().fit(x, y)

def unfitted():
    return RidgeClassifier()

def plain():
    return lambda batch: batch.reshape(len(batch), -1) @ np.eye(4)[:, :2]

def number():
    return 7
"""


def test_estimators_and_plain_functions_give_scores_or_decisions(tmp_path: Path):
    (tmp_path / "made.py").write_text(PY)
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    estimator, decides, plain = (the_one(f"{tmp_path}/made.py:{name}") for name in ("estimator", "decides", "plain"))
    assert [access_of(each) for each in (estimator, decides, plain)] == [Access.SCORES, Access.DECISION, Access.SCORES]
    assert torch.equal(plain(x), x[:, :2])
    assert estimator(x).exp().sum(1).numpy() == pytest.approx(np.ones(9), abs=1e-5)
    assert (estimator(x).argmax(1) == (x[:, 0] > 0)).float().mean() > 0.8
    assert (decides(x).argmax(1) == (x[:, 0] > 0)).float().mean() > 0.8
    assert "decisions, no scores" in told(decides)[0]
    with pytest.raises(InputError, match="no classes_"):
        models.load(f"{tmp_path}/made.py:unfitted")
    with pytest.raises(InputError, match="returns int"):
        models.load(f"{tmp_path}/made.py:number")


# -- RobustBench --


def test_robustbench_is_asked_for_what_the_text_names(monkeypatch: pytest.MonkeyPatch):
    asked = []
    utils = types.ModuleType("robustbench.utils")
    utils.load_model = lambda **options: asked.append(options) or net()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "robustbench", types.ModuleType("robustbench"))
    monkeypatch.setitem(sys.modules, "robustbench.utils", utils)
    assert list(models.load("robustbench:Some2020")) == ["Some2020"]
    models.load("robustbench:cifar100/L2/Other2021")
    assert [each["model_name"] for each in asked] == ["Some2020", "Other2021"]
    assert (asked[1]["dataset"], asked[1]["threat_model"]) == ("cifar100", "L2")
    with pytest.raises(InputError, match="DATASET/THREAT/NAME"):
        models.load("robustbench:a/b")


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    for package in ("timm", "transformers", "onnx", "robustbench.utils"):
        monkeypatch.setitem(sys.modules, package, None)
    for spec in ("timm:resnet18", "hf:a/b", "onnx:f.onnx", "robustbench:Some2020"):
        with pytest.raises(InputError, match=r"cannot be imported.*pip install"):
            models.load(spec)


@pytest.mark.parametrize("spec", ["hf:x", "onnx:x", "torchscript:x", "export:x", "robustbench:x", "http://127.0.0.1/"])
def test_models_that_bring_their_weights_take_no_others(spec: str, tmp_path: Path):
    with pytest.raises(InputError, match="brings its own"):
        models.load(spec, weights=tmp_path / "w.pt")


def test_normalisation_is_told_where_it_is_ones_own():
    assert told(Normalized(net(), [0.5] * 3, [0.25] * 3)) == [
        "normalisation folded in: mean 0.5, 0.5, 0.5, deviation 0.25, 0.25, 0.25."
    ]
    assert told(net()) == []
