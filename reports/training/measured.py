"""What is measured of a generator, what is it called, and how is it said?"""

from collections.abc import Callable
from dataclasses import dataclass

from reports import words

Measures = dict[str, float]


@dataclass(frozen=True)
class Measure:
    name: str
    kind: str  # "share" or "number"
    meaning: str
    headline: Callable[[Measures], str]  # what it says where it is the foremost measure of a run
    level: tuple[str, float] | None = None  # what a perfect generator gets
    of: str = "samples"  # or "reference": what a share is a share of; the measure of that name is their number

    def said(self, value: float) -> str:
        return words.share(value) if self.kind == "share" else words.number(value)


def counted(name: str, measures: Measures) -> str:
    """ "578 of 599"; empty where it is no share, or nobody knows of how many."""
    measure = MEASURES[name]
    n = int(measures.get(measure.of, 0))
    return words.of(round(measures[name] * n), n) if measure.kind == "share" and n else ""


def told(name: str, measures: Measures) -> str:
    return MEASURES[name].said(measures[name])


MEASURES = {  # the foremost first: the first that a run has is its headline
    "recognised": Measure(
        "recognised",
        "share",
        "samples that a classifier, which took no part in training, takes for the class that was asked for",
        lambda m: f"{words.share(m['recognised'])} of the samples are taken for what was asked for",
    ),
    "modes": Measure(
        "modes",
        "number",
        "modes with at least one sample within three standard deviations",
        lambda m: f"{m['modes']:.0f} modes found, and {words.share(m.get('high_quality'))} of the samples on one",
    ),
    "js": Measure(
        "Jensen–Shannon divergence",
        "number",
        "between the data's density and the generator's, in nats; 0 where they are the same",
        lambda m: f"Its density is {words.number(m['js'])} nats from the data's",
        ("equilibrium", 0.0),
    ),
    "high_quality": Measure(
        "on a mode",
        "share",
        "samples within three standard deviations of a mode; a perfect sampler has 98.9 %",
        lambda m: f"{words.share(m['high_quality'])} of the samples on a mode",
        ("a perfect sampler", 0.989),
    ),
    "reverse_kl": Measure(
        "reverse KL",
        "number",
        "of the samples' shares of the modes from equal shares, in nats; 0 where all are equal",
        lambda m: f"Reverse KL {words.number(m['reverse_kl'])}",
        ("equal shares", 0.0),
    ),
    "narrowest": Measure(
        "narrowest mode",
        "number",
        "standard deviation of its samples over the true one, least of all modes; 1 is right, 0 a mere point",
        lambda m: f"The narrowest mode has {words.number(m['narrowest'])} of its width",
        ("as the data", 1.0),
    ),
    "widest": Measure(
        "widest mode",
        "number",
        "the same, greatest of all modes",
        lambda m: f"The widest mode has {words.number(m['widest'])} of its width",
        ("as the data", 1.0),
    ),
    "value": Measure(
        "value of the game",
        "number",
        "E log D(x) + E log(1 - D(G(z))) of the trained critic; -2 ln 2 = -1.386 at the equilibrium",
        lambda m: f"The value of the game is {words.number(m['value'])}",
        ("equilibrium, -2 ln 2", -1.3862943611198906),
    ),
    "critic_mean": Measure(
        "mean answer of the critic",
        "number",
        "as a probability that a point is real; one half at the equilibrium",
        lambda m: f"The critic's mean answer is {words.number(m['critic_mean'])}",
        ("equilibrium", 0.5),
    ),
    "critic_error": Measure(
        "farthest from one half",
        "number",
        "of the critic's answers, wherever both densities together exceed 1 % of their maximum; 0 at the equilibrium",
        lambda m: f"The critic strays {words.number(m['critic_error'])} from one half",
        ("equilibrium", 0.0),
    ),
    "frechet": Measure(
        "Fréchet distance",
        "number",
        "between Gaussians fitted to the features of samples and training images; 0 is never reached: the fewer "
        "samples, the larger",
        lambda m: f"A Fréchet distance of {words.number(m['frechet'])} from the training images",
    ),
    "precision": Measure(
        "precision",
        "share",
        "samples within the reach of a training image: how many look real",
        lambda m: f"{words.share(m['precision'])} of the samples within reach of the data",
    ),
    "recall": Measure(
        "recall",
        "share",
        "training images within the reach of a sample: how much of the data is generated",
        lambda m: f"{words.share(m['recall'])} of the data within reach of the samples",
        of="reference",
    ),
    "density": Measure(
        "density",
        "number",
        "how many training images' reaches a sample lies in, against the expected; may exceed 1",
        lambda m: f"Density {words.number(m['density'])}",
    ),
    "coverage": Measure(
        "coverage",
        "share",
        "training images with a sample within their own reach: how much of the data is generated",
        lambda m: f"{words.share(m['coverage'])} of the data covered",
        of="reference",
    ),
    "kernel": Measure(
        "kernel distance",
        "number",
        "squared, between the features of samples and training images, by a cubic kernel; 0 on average where both are "
        "alike",
        lambda m: f"A kernel distance of {words.number(m['kernel'])} from the training images",
    ),
}
