"""What is drawn: curves over eps as SVG that takes its colours from the page, examples as PNG.

The same input gives the same bytes: ids are salted, nothing is dated.
"""

import base64
import io
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from reports import words
from reports.summary import Curve

SERIES = 6  # colours of lines that the page knows; further lines begin again, dashed
LARGEST = 150  # pixels a side of a picture beside others, which is twice what it is shown at
DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)))
POINTS = 400  # of a curve; with more steps than that it is drawn through a grid
PLACEHOLDERS = {"#00000a": "var(--ink)", "#00000b": "var(--muted)", "#00000c": "var(--line)", "#00000d": "var(--paper)"}
PLACEHOLDERS |= {f"#00001{k}": f"var(--series-{k})" for k in range(1, SERIES + 1)}
INK, MUTED, LINE, PAPER = list(PLACEHOLDERS)[:4]
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "advgan",
    "svg.fonttype": "none",
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "path.simplify": False,
}


@dataclass(frozen=True)
class Tested:
    """A robust accuracy that attacks measured at one eps: a dot beside the curve."""

    series: int
    eps: float
    text: str  # the radius as it was typed
    share: float


def eps_range(curves: Sequence[Curve], tested: Sequence[Tested]) -> float:
    """How far the axis goes: to where nearly all have fallen, but not so far that the tested eps crowd at its start."""
    sizes = np.concatenate([curve.lasting for curve in curves]) if curves else np.zeros(0)
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    fallen = float(np.quantile(sizes, 0.98)) if len(sizes) else 0.0
    farthest = max((one.eps for one in tested), default=0.0)
    return max(1.15 * farthest, min(fallen, 5 * farthest) if farthest else fallen) or 1.0


def curve_chart(curves: Sequence[tuple[int, Curve]], tested: Sequence[Tested], key: str) -> str:
    """Share of all examples still standing over eps, one line per (series, Curve), as inline SVG.

    key: goes before every id, so that several charts can stand in one page.
    """
    end = eps_range([curve for _, curve in curves], tested)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.4))
        axes = figure.add_axes((0.105, 0.15, 0.875, 0.75))
        axes.set(xlim=(0, end), ylim=(0, 1))
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25", "50", "75", "100 %"])
        axes.grid(axis="y", color=LINE, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, pad=5)
        axes.tick_params(axis="x", length=3)
        norm = curves[0][1].norm if curves else ""
        axes.set_xlabel(f"eps, the largest perturbation allowed ({words.norm(norm)})", labelpad=4)
        _mark_tested(axes, tested, end)
        for series, curve in curves:
            eps, share = _points(curve, end)
            axes.step(eps, share, where="post", clip_on=False, **look(series))
        for one in tested:
            colour = look(one.series)["color"]
            axes.plot(one.eps, one.share, "o", ms=6, mfc=colour, mec=PAPER, mew=1.4, clip_on=False, zorder=5)
        return svg(figure, key)


def look(series: int) -> dict:
    dash = DASHES[series // SERIES % len(DASHES)]
    return {"color": list(PLACEHOLDERS)[4 + series % SERIES], "linestyle": dash, "linewidth": 1.9}


def _mark_tested(axes, tested: Sequence[Tested], end: float) -> None:
    """A dotted line at every tested eps, its radius above; where two are close, one stands higher."""
    last, high = -np.inf, False
    for eps, text in sorted({(one.eps, one.text) for one in tested}):
        axes.axvline(eps, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2.5)))
        high = not high and (eps - last) / end < 0.016 * (len(text) + 3)
        last = eps
        axes.text(eps, 1.09 if high else 1.025, text, ha="center", va="bottom", color=INK, fontsize=10.5)


def _points(curve: Curve, end: float) -> tuple[np.ndarray, np.ndarray]:
    steps = np.unique(curve.lasting[curve.lasting <= end])
    if len(steps) > POINTS:
        steps = np.linspace(0, end, POINTS)
    eps = np.unique(np.concatenate([[0.0], steps, [end]]))
    return eps, curve.standing(eps) / curve.n


def svg(figure: Figure, key: str) -> str:
    """Inline SVG: no XML head, no metadata, no namespaces (HTML needs none), the page's colours and typeface."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<(metadata|style)\b.*?</\1>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    head, rest = text.split(">", 1)
    head = re.sub(r'\s(?:xmlns(?::\w+)?|version|width|height)="[^"]*"', "", head)
    text = f'{head} aria-hidden="true" focusable="false">{rest}'
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d+\.\d\d)\d+", r"\1", tag[0]), text)  # and not what is written
    text = re.sub(r'\bid="', f'id="{key}-', text)
    text = text.replace("url(#", f"url(#{key}-").replace('href="#', f'href="#{key}-')
    text = re.sub(r"font-family:[^;\"]*", "font-family: inherit", text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1; font-family: inherit", text)
    for placeholder, variable in PLACEHOLDERS.items():
        text = text.replace(placeholder, variable)
    return text.strip()


def pixels(image: np.ndarray, bounds: tuple[float, float] = (0.0, 1.0)) -> np.ndarray | None:
    """An input as uint8 [H, W] or [H, W, 3]; None where it is no picture. image: [H, W], [1, H, W] or [3, H, W]."""
    if image.ndim == 3 and image.shape[0] in (1, 3):
        image = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
    elif image.ndim != 2:
        return None
    low, high = bounds
    return np.round(255 * np.clip((image - low) / (high - low), 0, 1)).astype(np.uint8)


def shown(x: np.ndarray) -> np.ndarray:
    """[n, H, W] or [n, H, W, 3] uint8, of images [n, C, H, W] in [0, 1]; of 4 channels the first 3, of 2 the first."""
    colours = x[:, :3] if x.shape[1] >= 3 else x[:, :1]
    return np.stack([image for one in colours if (image := pixels(one)) is not None])


def amplified(x: np.ndarray, x_adv: np.ndarray, bounds: tuple[float, float] = (0.0, 1.0)) -> tuple[np.ndarray, float]:
    """The perturbation about mid-grey, and by how much it was multiplied so that its largest entry is just not cut."""
    low, high = bounds
    change = x_adv.astype(np.float64) - x
    most = np.abs(change).max(initial=0)
    factor = (high - low) / 2 / most if most > 0 else 1.0
    factor = np.floor(factor) if factor >= 10 else np.floor(10 * factor) / 10
    return (low + high) / 2 + factor * change, float(factor)


def reduced(image: np.ndarray) -> np.ndarray:
    """At most LARGEST pixels a side, by the means of squares of pixels. image: uint8 [H, W] or [H, W, 3]."""
    factor = -(-max(image.shape[:2]) // LARGEST)
    if factor == 1:
        return image
    height, width = (max(1, side // factor) for side in image.shape[:2])
    squares = image[: height * factor, : width * factor].reshape(height, -1, width, factor, *image.shape[2:])
    return np.round(squares.mean((1, 3))).astype(np.uint8)


def png(image: np.ndarray) -> str:
    """A data URI. image: uint8 [H, W] (grey), [H, W, 3] (rgb) or [H, W, 4] (rgb and opacity)."""
    return f"data:image/png;base64,{base64.b64encode(png_file(image)).decode()}"


def png_file(image: np.ndarray) -> bytes:
    """The bytes of a PNG file; image as for `png`."""
    height, width = image.shape[:2]
    lines = b"".join(b"\0" + image[k].tobytes() for k in range(height))
    kind = {1: 0, 3: 2, 4: 6}[1 if image.ndim == 2 else image.shape[2]]
    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def sheet(images: np.ndarray, columns: int) -> np.ndarray:
    """Images side by side, row by row, the gaps between them clear: uint8 [H', W', 4]. images: uint8 [n, H, W(, 3)]."""
    n, height, width = images.shape[:3]
    gap, rows = max(1, height // 10), -(-n // columns)
    drawn = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4), dtype=np.uint8)
    for k in range(n):
        top, left = k // columns * (height + gap), k % columns * (width + gap)
        place = drawn[top : top + height, left : left + width]
        place[..., :3] = images[k].reshape(height, width, -1)
        place[..., 3] = 255
    return drawn


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
