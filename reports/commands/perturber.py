"""The command `advgan train perturber`: what can be typed, and what is told on the terminal."""

from pathlib import Path
from typing import Annotated

import typer

from reports.commands import options, training
from reports.commands.options import HOW, RESULT, WHAT
from reports.commands.typed import option, path_text

OUT = Path("advgan-perturber")


def perturber(
    model: Annotated[
        list[str] | None,
        option(
            "--model",
            WHAT,
            "The classifier to fool: digits:standard, digits:robust; FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION, "
            "as for an audit; torchvision:resnet18. Given several times, all of them at once. Without it: "
            "digits:standard.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        option(
            "--data",
            WHAT,
            "digits; FILE.npz (x, y); FILE.parquet (image, label); a folder of images per class; "
            "torchvision:CIFAR10. It is parted in examples to learn from and others to count success on. Without it, "
            "for the digits models: digits.",
        ),
    ] = None,
    threat: Annotated[
        str | None,
        option(
            "--threat",
            WHAT,
            "How far an input may be moved: linf:8/255, l2:0.5 or l1:12, in units of the inputs. Without it, for "
            "the digits: linf:0.2.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        option(
            "--target",
            WHAT,
            "The class, by number or name, that inputs shall be taken for; any: whichever it is told. Without "
            "it: any wrong class will do.",
        ),
    ] = None,
    universal: Annotated[
        bool, typer.Option("--universal", rich_help_panel=WHAT, help="One perturbation for all inputs.")
    ] = False,
    per_class: Annotated[
        bool, typer.Option("--per-class", rich_help_panel=WHAT, help="One perturbation for each class.")
    ] = False,
    weights: Annotated[
        Path | None,
        option(
            "--weights",
            WHAT,
            "Weights of the model, as safetensors or as torch.save wrote a state dict. Nothing pickled is run.",
        ),
    ] = None,
    image_size: options.ImageSize = None,
    data_root: options.DataRoot = None,
    loss: Annotated[
        str | None,
        option(
            "--loss",
            HOW,
            "What it means to fool: margin (on logits), cross_entropy, relativistic_cross_entropy, "
            "feature_distance or feature_cosine. Without it: margin.",
            "NAME",
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        option(
            "--confidence",
            HOW,
            "How far beyond the boundary the margin is pushed. More carries over to other models.",
            "MARGIN",
        ),
    ] = None,
    layer: Annotated[
        str | None,
        option(
            "--layer",
            HOW,
            "The model's, by the name of its module, for losses on features and for --network features. A wrong "
            "name is answered with those that there are.",
            "NAME",
        ),
    ] = None,
    gan_weight: Annotated[
        float | None,
        option(
            "--gan-weight",
            HOW,
            "Of a critic's judgement whether an input looks untouched. 0 trains without a critic: "
            "it is stronger, if little, and takes less time. Without it: 1, as AdvGAN has it; for the digits 0.1.",
            "WEIGHT",
        ),
    ] = None,
    hinge_weight: Annotated[
        float | None,
        option(
            "--hinge-weight",
            HOW,
            "Of Euclidean length beyond --hinge. 0 leaves the length to the threat: it is stronger, if little. "
            "Without it: 1, as AdvGAN has it.",
            "WEIGHT",
        ),
    ] = None,
    hinge: Annotated[
        float | None,
        option(
            "--hinge",
            HOW,
            "Euclidean length of a perturbation that costs nothing. Without it: half of what the threat allows.",
            "LENGTH",
        ),
    ] = None,
    objective: Annotated[
        str | None,
        option("--objective", HOW, "The game with the critic, as for a gan.", "NAME"),
    ] = None,
    penalty: Annotated[
        str | None,
        option("--penalty", HOW, "On the critic's gradient, as for a gan.", "NAME[:WEIGHT]"),
    ] = None,
    network: Annotated[
        str | None,
        option(
            "--network",
            HOW,
            "residual (of images) or mlp; features reads --layer of the model instead of the input (AdvGAN++). "
            "Without it: what fits.",
            "KIND",
        ),
    ] = None,
    width: options.Width = None,
    depth: options.Depth = None,
    steps: options.Steps = None,
    batch: options.BatchSize = None,
    lr: options.Rate = None,
    precision: options.Precision = None,
    seed: options.Seed = None,
    device: options.Device = "cpu",
    transfer: Annotated[
        list[str] | None,
        option(
            "--transfer",
            RESULT,
            "Show what it makes to this model too, which took no part. May be given several times. Without it, "
            "for a digits model: the other one.",
            "MODEL",
        ),
    ] = None,
    every: options.Every = None,
    out: options.Out = None,
    resume: options.Resume = None,
) -> None:
    """Train a network that makes adversarial examples in one pass, measure it, and write a page that tells of it.

    Without arguments: of the handwritten digits, against digits:standard, in about a minute on a CPU.

    It writes a folder: report.html, the numbers (run.json), the generator, a checkpoint to go on from. The folder is
    an attack: advgan audit --attack generated:FOLDER.

    Without more said, it also learns to look untouched and to be short, as AdvGAN does.
    For strength, where nothing but fooling counts: --gan-weight 0 --hinge-weight 0.

    Exit status: 0; 2 where the input cannot be used or training diverged; 130 after Ctrl-C, with the run saved.

    Example: advgan train perturber -m net.py:make -d train.npz -t linf:8/255 --gan-weight 0 --hinge-weight 0 --out run
    """  # fmt: skip
    from attacks.errors import InputError
    from reports.perturbing import text, told
    from reports.perturbing.job import Perturbing
    from reports.training.asked import penalty_from_text, rate_checked

    if universal and per_class:
        raise InputError("--universal makes one perturbation, --per-class one for each class. Give one of the two.")
    named = {
        "model": model or None,
        "weights": path_text(weights),
        "data": data,
        "image_size": image_size,
        "data_root": path_text(data_root),
        "target": target,
        "transfer": transfer or None,
    }
    recipe = {
        "threat": threat,
        "kind": "universal" if universal else "per_class" if per_class else None,
        "loss": loss,
        "confidence": confidence,
        "layer": layer,
        "gan_weight": gan_weight,
        "hinge_weight": hinge_weight,
        "hinge": hinge,
        "objective": objective,
        **penalty_from_text(penalty),
        "network": network,
        "width": width,
        "depth": depth,
        "steps": steps,
        "batch": batch,
        "lr": rate_checked(lr),
        "precision": precision,
        "seed": seed,
    }
    folder = training.folder_for(out, resume, OUT)
    run = training.watched(
        Perturbing,
        named,
        recipe,
        folder,
        resume=resume is not None,
        device=device,
        every=every,
        line=text.line,
    )
    training.told(text.table(run), folder, f"As an attack:\n  {told.audit(run)}")
