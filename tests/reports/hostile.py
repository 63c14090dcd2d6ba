"""Files of every kind that can be read, whole, and what malice or chance makes of them."""

import io
import json
import random
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 6, 6, 3), dtype=np.uint8)
X = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that says that it is `side` pixels high and wide."""
    whole = bytearray(png(np.zeros((1, 1), np.uint8)))
    whole[16:24] = side.to_bytes(4, "big") * 2

    whole[29:33] = zlib.crc32(bytes(whole[12:29])).to_bytes(4, "big")
    return bytes(whole)


def tar(path: Path, members: list[tuple[tarfile.TarInfo | str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for told, content in members:
            member = tarfile.TarInfo(told) if isinstance(told, str) else told
            member.size = len(content) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(content))
    return path


def whole_files(folder: Path) -> dict[str, Path]:
    """One of each kind, all of them good."""
    save_file({name: value.contiguous() for name, value in net().state_dict().items()}, folder / "w.safetensors")
    torch.save(net().state_dict(), folder / "w.pt")
    torch.jit.save(torch.jit.script(net()), folder / "n.pt")
    batch = torch.export.Dim("b", min=1, max=4096)
    torch.export.save(torch.export.export(net(), (X,), dynamic_shapes=({0: batch},)), folder / "n.pt2")
    onnx_file(folder / "n.onnx")
    np.savez(folder / "a.npz", x=PIXELS, y=np.arange(6) % 3)
    np.savez_compressed(folder / "c.npz", x=PIXELS, y=np.arange(6) % 3)
    images = [png(pixels) for pixels in PIXELS]
    pq.write_table(pa.table({"image": images, "label": [0, 1, 2, 0, 1, 2]}), folder / "p.parquet")
    (folder / "t.csv").write_text("age,sex,label\n20,0,0\n60,1,1\n40,1,1\n")
    (folder / "t.json").write_text('{"label": "label", "bounds": {"age": [0, 99]}, "immutable": ["sex"]}')
    tar(
        folder / "s.tar", [each for k, image in enumerate(images) for each in ((f"{k}.png", image), (f"{k}.cls", b"1"))]
    )
    (folder / "i.png").write_bytes(images[0])
    return {path.name: path for path in folder.iterdir()}


def onnx_file(path: Path, location: str | None = None) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(192, 5)).astype(np.float32), "w")
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["scores"])]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 3, 8, 8])
    found = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["b", 5])
    if location is not None:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        entry = weight.external_data.add()
        entry.key, entry.value = "location", location
    graph = helper.make_graph(nodes, "linear", [given], [found], [weight])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(made.SerializeToString())
    assert onnx.load(path, load_external_data=False)


def damaged(content: bytes, seed: int) -> bytes:
    """Cut, flipped, overwritten, grown: as chance has it."""
    chance, raw = random.Random(seed), bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 5])):
        at, how = chance.randrange(max(1, len(raw))), chance.randrange(6)
        if how == 0:
            raw = raw[:at]
        elif how == 1 and raw:
            raw[at] ^= 1 << chance.randrange(8)
        elif how == 2:
            raw[at : at + 8] = bytes(chance.randrange(256) for _ in range(8))
        elif how == 3:
            raw[at : at + chance.randrange(1, 200)] = b""
        elif how == 4:
            raw[at:at] = bytes(chance.randrange(1, 40))
        else:
            raw[at : at + 4] = b"\xff\xff\xff\x7f"
    return bytes(raw)


def damaged_within(content: bytes, seed: int) -> bytes:
    """A zip archive whose sums are right, and one of whose files is damaged."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    name = random.Random(seed).choice(list(files))
    return zipped(files | {name: damaged(files[name], seed)})


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def within(path: Path, change: dict[str, bytes], stem: str | None = None) -> None:
    """Files put into PyTorch's archive, under the name that all of them stand under."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    stem = next(iter(files)).partition("/")[0] if stem is None else stem
    path.write_bytes(zipped(files | {f"{stem}/{name}": content for name, content in change.items()}))


def program(path: Path) -> dict:
    """The program in a file of torch.export, as JSON."""
    with zipfile.ZipFile(path) as archive:
        name = next(each for each in archive.namelist() if "/models/" in each)
        return json.loads(archive.read(name))
