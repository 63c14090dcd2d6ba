"""On a GPU: how near the kernels come to a copy, and the loop to the bare passes of the model; beside torchattacks."""

import itertools
import statistics
from collections.abc import Callable

import networks
import peers
import pytest
import torch
from record import Book
from torch import Tensor, nn
from torchvision.models import resnet50

import attacks
from attacks import kernels

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
    pytest.mark.filterwarnings("ignore"),  # the peers' own
]
STEPS = 40
COPY_BAR, PASSES_BAR, PEER_BAR, FORMS_BAR = 0.85, 0.95, 3.0, 2.0
EPS = 0.1
IMAGES = (256, 3, 224, 224)


def milliseconds(call: Callable[[], object], laps: int = 10) -> float:
    """The median of so many calls, after three."""
    for _ in range(3):
        call()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(laps + 1)]
    for mark in marks[:-1]:
        mark.record()
        call()
    marks[-1].record()
    torch.cuda.synchronize()
    return statistics.median(one.elapsed_time(next_) for one, next_ in itertools.pairwise(marks))


def device() -> str:
    return torch.cuda.get_device_name()


def launches() -> dict[str, tuple[Callable[[], object], float]]:
    """Name -> (a call, the images that it must read and write, each once a pass)."""
    rows, width = IMAGES[0], IMAGES[1] * IMAGES[2] * IMAGES[3]
    x, z, way = (torch.rand(rows, width, device="cuda") for _ in range(3))
    low, high = torch.zeros_like(x), torch.ones_like(x)
    eps = torch.full((rows,), 8 / 255, device="cuda")
    two, sparse = torch.full_like(eps, 2.0), torch.full_like(eps, 12.0)
    near = (x + eps[:, None] * (2 * z - 1)).clamp(0, 1)
    size = torch.full((rows,), torch.inf, dtype=torch.float64, device="cuda")
    at = torch.zeros(rows, dtype=torch.int64, device="cuda")
    no = at > 0
    ids = torch.arange(rows, device="cuda")
    allowed = torch.full_like(size, 0.04)
    best, best_grad = x.clone(), way.clone()

    def keep(hit: Tensor) -> None:
        kept = (way, size.clone(), at.clone(), at.clone(), no.clone(), at.clone(), at.clone())
        kernels.keep_better(kept, ~no, hit, x, near, low, high, allowed, "linf", None, 3, (1, 1, at), None)

    return {
        "step_linf": (lambda: kernels.step_linf(x, way, eps, low, high), 5),
        "ascend_linf, none better": (
            lambda: kernels.ascend_linf(near, x, way, no, best, best_grad, eps, low, high, inertia=0.25),
            6,
        ),
        "on_grid": (lambda: kernels.on_grid(x, near, 255), 3),
        "take_rows, half of them": (lambda: kernels.take_rows([x], ids[::2]), 1),
        "step_l2": (lambda: kernels.step_l2(x, near, way, two / 10, two, low, high), 7),
        "shrink_l2": (lambda: kernels.shrink_l2(x, z, two, low, high), 6),
        "project_l1": (lambda: kernels.project_l1(x, near, sparse, low, high), 9),
        "keep_better, all kept": (lambda: keep(~no), 6),
        "keep_better, none kept": (lambda: keep(no), 0),
        "uniform": (lambda: kernels.uniform(0, ids, 0, width, torch.float32), 1),
    }


def test_kernels_come_near_a_copy(book: Book):
    source = torch.rand(IMAGES, device="cuda")
    copy = torch.empty_like(source)
    gigabytes = source.numel() * 4 / 1e9
    ceiling = 2 * gigabytes / milliseconds(lambda: copy.copy_(source)) * 1e3
    shares: dict[str, float] = {}
    for name, (call, images) in launches().items():
        spent = milliseconds(call)
        achieved = images * gigabytes / spent * 1e3
        if images:
            shares[name] = achieved / ceiling
        book.add(
            suite="gpu kernels",
            measured=f"{name}, {' x '.join(map(str, IMAGES))}",
            unit="ms",
            repeats=10,
            ours=spent,
            reference=ceiling,
            reference_is="a copy, GB/s read and written",
            ratio=achieved / ceiling,
            bar=COPY_BAR if images else "",
            note=f"{device()}; {images} images read or written, {achieved:.0f} GB/s",
        )
    assert {name: share for name, share in shares.items() if share < COPY_BAR} == {}


def bare(model: nn.Module, x: Tensor, labels: Tensor) -> Callable[[], object]:
    """STEPS passes there and back and two more there, recorded as CUDA graphs."""
    static = x.clone()
    slope = torch.zeros(len(x), 10, device="cuda").scatter_(1, labels[:, None] + 1, 1.0)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            leaf = static.detach().requires_grad_()
            torch.autograd.grad(model(leaf), leaf, slope)
    torch.cuda.current_stream().wait_stream(stream)
    there, back = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(there):
        model(static)
    with torch.cuda.graph(back):
        leaf = static.detach().requires_grad_()
        torch.autograd.grad(model(leaf), leaf, slope)

    def passes() -> None:
        for _ in range(2):
            there.replay()
        for _ in range(STEPS):
            back.replay()

    return passes


def two_convolutions(first: int, second: int, hidden: int) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(3, first, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(first, second, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(second * 64, hidden), nn.ReLU(), nn.Linear(hidden, 10)),
    )
    return networks.sure_of_class_0(net, net[-1]).cuda().requires_grad_(False)


@pytest.mark.parametrize("size", [(32, 64, 200), (16, 32, 100)], ids=["32-64", "16-32"])
@pytest.mark.parametrize("name", ["pgd", "apgd"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attack_takes_little_more_than_its_passes(norm, name, size, book: Book):
    model = two_convolutions(*size)
    x, labels = (each.cuda() for each in networks.images(512, (3, 32, 32)))
    goal, threat = attacks.Goal(labels), attacks.ThreatModel.parse(f"{norm}:{EPS if norm == 'linf' else 1.0}")
    attack = attacks.CATALOG[name](steps=STEPS)
    recorded, plain = attacks.Victim(model), attacks.Victim(model, graph=False)
    calls = {
        "recorded": lambda: attacks.run(attack, recorded, x, goal, threat),
        "plain": lambda: attacks.run(attack, plain, x, goal, threat),
        "bare": bare(model, x, labels),
    }
    if name == "pgd" and "torchattacks" in peers.installed():
        calls["torchattacks"] = peers._torchattacks(model, x, labels, norm, threat.eps, STEPS, 0.1, True)
    assert not attacks.run(attack, recorded, x, goal, threat).fooled.any()
    times = {who: milliseconds(call) for who, call in calls.items()}
    peer = times.get("torchattacks")
    book.add(
        suite="gpu loop",
        measured=f"{name}-{STEPS} {norm}, CNN of {size[0]} and {size[1]} channels, 512 x 3 x 32 x 32",
        unit="ms",
        repeats=10,
        ours=times["recorded"],
        reference=times["bare"],
        reference_is="its bare passes, recorded as CUDA graphs",
        ratio=times["bare"] / times["recorded"],
        bar=PASSES_BAR if name == "pgd" else "",
        note=f"{device()}; not recorded {times['plain']:.2f} ms"
        + (f"; torchattacks takes {peer / times['recorded']:.2f} times as long" if peer else ""),
        **({"torchattacks": peer} if peer else {}),
    )
    if name == "pgd":
        assert times["bare"] / times["recorded"] >= PASSES_BAR
        assert peer is None or peer / times["recorded"] >= PEER_BAR


def test_a_cheaper_form_of_a_large_network(book: Book):
    torch.manual_seed(0)
    net = resnet50().eval()
    model = networks.sure_of_class_0(net, net.fc).cuda().requires_grad_(False)
    x, labels = (each.cuda() for each in networks.images(128, (3, 224, 224)))
    with torch.no_grad():
        labels = model(x).argmax(1)
    goal, threat, attack = attacks.Goal(labels), attacks.linf(1e-6), attacks.pgd(steps=10)
    forms = {
        "float32": attacks.Victim(model),
        "bf16, channels last, folded": attacks.Victim(model, precision="bf16", channels_last=True, fold_batchnorm=True),
        "bf16, channels last, folded, compiled": attacks.Victim(
            model, precision="bf16", channels_last=True, fold_batchnorm=True, compile=True
        ),
    }
    calls = {who: (lambda victim=victim: attacks.run(attack, victim, x, goal, threat)) for who, victim in forms.items()}
    if "torchattacks" in peers.installed():
        calls["torchattacks"] = peers._torchattacks(model, x, labels, "linf", 1e-6, 10, 0.1, True)
    times = {who: milliseconds(call, laps=3) for who, call in calls.items()}
    peer = times.pop("torchattacks", None)
    for who, spent in times.items():
        left = "; ".join(forms[who].searched.notes)
        book.add(
            suite="gpu forms",
            measured=f"pgd-10 linf, ResNet-50, 128 x 3 x 224 x 224, {who}",
            unit="ms",
            repeats=3,
            ours=spent,
            **({"torchattacks": peer, "ratio": peer / spent} if peer else {}),
            reference_is="torchattacks' time over ours",
            bar=FORMS_BAR if "compiled" in who else "",
            note=f"{device()}{'; ' + left if left else ''}",
        )
    assert peer is None or peer / min(times.values()) >= FORMS_BAR
