"""The command `advgan train sequence`: what can be typed, and what is told on the terminal."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from reports.commands import options, training
from reports.commands.options import HOW, WHAT
from reports.commands.typed import option, path_text

OUT = Path("advgan-sequence")
BASE, SEQGAN, GUMBEL = "The generator", "The game of seqgan", "The game of gumbel"


_number, _real = partial(option, behind="N"), partial(option, behind="X")


def sequence(
    data: Annotated[
        str | None,
        option(
            "--data",
            WHAT,
            "A UTF-8 file of text, a line for each sequence; oracle:FILE.npz, an LSTM whose probabilities are "
            "known (SeqGAN's benchmark); oracle: a small one drawn from a seed. Without it: oracle.",
        ),
    ] = None,
    vocabulary: Annotated[
        str | None,
        option(
            "--vocabulary",
            WHAT,
            "Of text: words (between white space) or characters. Without it: words where half of the lines have "
            "three or more.",
            "KIND",
        ),
    ] = None,
    vocabulary_size: Annotated[
        int | None, _number("--vocabulary-size", WHAT, "Tokens that are known, the most frequent. Without it: 5000.")
    ] = None,
    length: Annotated[
        int | None,
        _number(
            "--length",
            WHAT,
            "Tokens of a sequence; of text, of the longest line. Without it: 20 (of the small oracle 8); "
            "of text as the longest line has it, up to 256.",
        ),
    ] = None,
    cut: Annotated[bool | None, typer.Option("--cut", rich_help_panel=WHAT, help="Cut longer lines.")] = None,
    sequences: Annotated[
        int | None, _number("--sequences", WHAT, "That the oracle writes to be learnt from. Without it: 9984.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-m",
            metavar="NAME",
            rich_help_panel=HOW,
            help="likelihood; seqgan (policy gradient with rollouts) and gumbel (straight-through) go on from there. "
            "Without it: likelihood.",
        ),
    ] = None,
    epochs: Annotated[int | None, _number("--epochs", HOW, "Of maximum likelihood.")] = None,
    batch: options.BatchSize = None,
    lr: Annotated[
        float | None, _real("--lr", HOW, "Learning rate of maximum likelihood, and of SeqGAN's generator.")
    ] = None,
    seed: options.Seed = None,
    device: options.Device = "cpu",
    generator: Annotated[
        str | None,
        option("--generator", BASE, "lstm or memory (relational). Without it: lstm.", "KIND"),
    ] = None,
    embedding: Annotated[int | None, _number("--embedding", BASE, "Numbers that stand for a token.")] = None,
    hidden: Annotated[int | None, _number("--hidden", BASE, "Numbers in its state.")] = None,
    start: Annotated[
        Path | None,
        option(
            "--start",
            BASE,
            "A game begins with the generator of this run on the same data, instead of epochs of likelihood.",
            "RUN",
        ),
    ] = None,
    rounds: Annotated[int | None, _number("--rounds", "The game", "Of seqgan or gumbel.")] = None,
    critic: Annotated[
        str | None,
        option("--critic", "The game", "seqgan (1,720 filters) or small (160).", "KIND"),
    ] = None,
    critic_lr: Annotated[float | None, _real("--critic-lr", "The game", "The critic's learning rate.")] = None,
    rollouts: Annotated[
        int | None, _number("--rollouts", SEQGAN, "Continuations of each beginning, by which it is valued.")
    ] = None,
    baseline: Annotated[
        bool | None,
        typer.Option(
            "--baseline/--no-baseline", rich_help_panel=SEQGAN, help="Values less the batch's mean at that position."
        ),
    ] = None,
    rewards: Annotated[
        str | None,
        option("--rewards", SEQGAN, "critic, or a control: constant, permuted (another sequence's).", "KIND"),
    ] = None,
    critic_first: Annotated[
        int | None, _number("--critic-first", SEQGAN, "The critic's lessons before the first round.")
    ] = None,
    critic_sets: Annotated[int | None, _number("--critic-sets", SEQGAN, "The critic's lessons in a round.")] = None,
    critic_epochs: Annotated[int | None, _number("--critic-epochs", SEQGAN, "Epochs of a lesson.")] = None,
    critic_sequences: Annotated[
        int | None, _number("--critic-sequences", SEQGAN, "Real sequences in a lesson.")
    ] = None,
    tau: Annotated[float | None, _real("--tau", GUMBEL, "Temperature of the softmax in the first round.")] = None,
    tau_last: Annotated[float | None, _real("--tau-last", GUMBEL, "And in the last.")] = None,
    soft: Annotated[
        bool | None,
        typer.Option("--soft/--no-soft", rich_help_panel=GUMBEL, help="Show the critic shares instead of tokens."),
    ] = None,
    objective: Annotated[
        str | None,
        option("--objective", GUMBEL, "As of a gan. Without it: relativistic.", "NAME"),
    ] = None,
    game_lr: Annotated[float | None, _real("--game-lr", GUMBEL, "The generator's learning rate in the game.")] = None,
    critic_moves: Annotated[int | None, _number("--critic-moves", GUMBEL, "Of the critic in a round.")] = None,
    every: options.Every = None,
    out: options.Out = None,
    resume: options.Resume = None,
) -> None:
    """Train a generator of text or of tokens, measure it, and write a page that tells of it.

    Without arguments: on sequences of a small oracle, whose truth is known, in half a minute on a CPU.

    It writes a folder: report.html, the numbers (run.json), the generator, a checkpoint to go on from. More of what it
    writes: advgan sample FOLDER --n 20.

    Exit status: 0; 2 where the input cannot be used or training diverged; 130 after Ctrl-C, with the run saved.

    Example: advgan train sequence -d names.txt --out run

    Example: advgan train sequence -d oracle:oracle.npz --method seqgan --device cuda --out run
    """  # fmt: skip
    from reports.sequencing import text
    from reports.sequencing.job import Sequencing

    named = {
        "data": data,
        "vocabulary": vocabulary,
        "vocabulary_size": vocabulary_size,
        "length": length,
        "cut": cut,
        "sequences": sequences,
        "method": method,
        "start": path_text(start),
    }
    recipe = {
        "epochs": epochs,
        "batch": batch,
        "lr": lr,
        "seed": seed,
        "generator": generator,
        "embedding": embedding,
        "hidden": hidden,
        "rounds": rounds,
        "critic": critic,
        "critic_lr": critic_lr,
        "rollouts": rollouts,
        "baseline": baseline,
        "rewards": rewards,
        "critic_first": critic_first,
        "critic_sets": critic_sets,
        "critic_epochs": critic_epochs,
        "critic_sequences": critic_sequences,
        "tau": tau,
        "tau_last": tau_last,
        "hard": None if soft is None else not soft,
        "objective": objective,
        "game_lr": game_lr,
        "critic_moves": critic_moves,
    }
    folder = training.folder_for(out, resume, OUT)
    run = training.watched(
        Sequencing,
        named,
        recipe,
        folder,
        resume=resume is not None,
        device=device,
        every=every,
        line=text.line,
    )
    training.told(text.table(run), folder, f"More of it:\n  advgan sample {folder} --n 20")
