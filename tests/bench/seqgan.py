"""A game on tokens on one device, each seed a run of its own, and what became of it as it went. `--help` says how.

Every mark adds a line of JSON to OUT/rows.jsonl, so that a run that is cut has told its curve; called again with that
OUT, each seed goes on from its last mark. On a GPU the seeds play side by side, each on a stream of its own.
"""

import argparse
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advgan.checkpoint import FILE
from advgan.run import RUN
from advgan.sequences import generators, gumbel, lessons, oracle, policy
from advgan.sequences.loop import train
from advgan.sequences.lstm import Lstm
from advgan.sequences.measures import Measures, compare, critic_gap
from advgan.sequences.model import Model
from advgan.sequences.sampling import sample

LENGTH, SEQUENCES = 20, 9984
METHODS: dict[str, tuple[Any, Any]] = {
    "policy": (policy.Recipe, policy.Policy),
    "gumbel": (gumbel.Recipe, gumbel.Gumbel),
}


def main() -> None:
    args = arguments()
    began = time.perf_counter()
    device = torch.device(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")  # on a GPU, until what is measured last
    if args.eager:
        lessons.WARM = 0
    args.out.mkdir(parents=True, exist_ok=True)
    truth = oracle.load(args.oracle).to(device)
    data = sample(truth, SEQUENCES, LENGTH, seed=0)
    games = {seed: game_of(args, seed, data, truth.vocabulary) for seed in args.seeds}
    told = partial(tell, args.out / "rows.jsonl", threading.Lock())
    tell_about(args, device, told)
    plays = [partial(play, args, seed, game, truth, began, told) for seed, game in games.items()]
    if device.type == "cuda":
        side_by_side(plays)
    else:
        for each in plays:
            each()
    torch.set_float32_matmul_precision("highest")
    for seed, game in games.items():
        found = compare(truth, game.nets["generator"], LENGTH, args.count or SEQUENCES)
        told(seed=seed, last=True, seconds_in_all=time.perf_counter() - began, **found.numbers())


def side_by_side(plays: list[Callable[[], None]]) -> None:
    torch.cuda.synchronize()
    with ThreadPoolExecutor(len(plays)) as pool:
        for each in [pool.submit(play) for play in plays]:
            each.result()
    torch.cuda.synchronize()


def game_of(args: argparse.Namespace, seed: int, data: Tensor, vocabulary: int) -> Any:
    recipe, method = METHODS[args.method]
    start = generators.load(args.start / str(seed)) if args.start else None
    return method(recipe(seed=seed, **json.loads(args.recipe)), data, vocabulary, start)


def play(args: argparse.Namespace, seed: int, game: Any, truth: Lstm, began: float, told: Any) -> None:
    folder = args.out / str(seed)
    rows = args.count or SEQUENCES

    def over() -> bool:
        return time.perf_counter() - began > args.seconds

    def measure(generator: Model) -> dict[str, float]:
        found = compare(truth, generator, LENGTH, rows).numbers()
        gap = critic_gap(game.nets["critic"], truth, generator, LENGTH, min(rows, 2000))
        return found | {"critic_gap": gap.value, "critic_gap_error": gap.error}

    def progress(step: int, row: dict[str, float]) -> None:
        if row["step"] == step:
            told(seed=seed, **row)
        if over():
            raise KeyboardInterrupt  # which saves

    stream = torch.cuda.stream(torch.cuda.Stream()) if args.device.startswith("cuda") else nullcontext()
    try:
        with stream:
            resume = (folder / FILE).exists()
            if not resume:
                told(seed=seed, step=0, seconds=0.0, **measure(game.nets["generator"]))
            train(game, folder, resume=resume, every=args.every, measure=measure, progress=progress)
    except KeyboardInterrupt:
        if not over():
            raise
        steps = json.loads((folder / RUN).read_text())["step"]
        told(seed=seed, cut_after=time.perf_counter() - began, steps=steps)


def tell_about(args: argparse.Namespace, device: torch.device, told: Any) -> None:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    told(about=vars(args), device=name, torch=torch.__version__, threads=torch.get_num_threads())


def tell(path: Path, lock: threading.Lock, **row: Any) -> None:
    with lock, path.open("a") as file:
        file.write(json.dumps(row, default=str) + "\n")
    shown = {
        name: row[name] for name in ("seed", "step", "last", "seconds", *Measures.__dataclass_fields__) if name in row
    }
    print(json.dumps(shown or row, default=str), flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oracle", type=Path, required=True, help="the .npz file of SeqGAN's oracle")
    parser.add_argument("--out", type=Path, required=True, help="where rows.jsonl and a folder a seed go")
    parser.add_argument("--method", choices=METHODS, default="policy")
    parser.add_argument("--recipe", default="{}", help="JSON: the recipe's fields that are to be others")
    parser.add_argument("--start", type=Path, help="START/SEED is a run of maximum likelihood to begin with")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="of torch, on a CPU")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--seconds", type=float, default=float("inf"), help="after which no further step is begun")
    parser.add_argument("--every", type=int, default=10, help="steps between marks")
    parser.add_argument("--count", type=int, help="sequences to measure with (9,984)")
    parser.add_argument("--eager", action="store_true", help="no CUDA graph")
    return parser.parse_args()


if __name__ == "__main__":
    main()
