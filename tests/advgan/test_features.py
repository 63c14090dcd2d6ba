"""Does a perturber that reads the victim's features (AdvGAN++) learn, say whose it reads, and count each look?"""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import attacks
from advgan.checkpoint import state_hash
from advgan.networks.perturber import Decoder, Flat
from advgan.perturb import Generated, Perturbing, load_perturber, success, train_perturber
from advgan.samples import Samples
from attacks import Access, InputError, Transferred, Victim
from attacks.decision.noise import uniform_noise

SHAPE, CLASSES, EPS = (1, 8, 8), 3, "linf:0.1"
RECIPE = Perturbing(
    threat=EPS,
    network="features",
    layer="body",
    steps=60,
    batch=32,
    lr=0.01,
    width=8,
    depth=1,
    latent=3,
    gan_weight=0.0,
    hinge_weight=0.0,
    confidence=5.0,
)
QUICK = replace(RECIPE, steps=6)


class Deep(nn.Module):
    def __init__(self, maps=4, shape=SHAPE):
        super().__init__()
        inner = maps * (torch.Size(shape[1:]).numel() // 4 if len(shape) == 3 else 4)
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            first = nn.Conv2d(shape[0], maps, 3, 2, 1) if len(shape) == 3 else nn.Linear(shape[0], inner)
            self.body, self.flat = nn.Sequential(first, nn.Tanh()), nn.Flatten()
            self.head = nn.Linear(inner, CLASSES)
        self.rows = 0

    def forward(self, x):
        self.rows += len(x)
        return 10 * self.head(self.flat(self.body(x - 0.5)))


def samples(n=128, seed=0, shape=SHAPE) -> Samples:
    x = torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return Samples(x, Deep(shape=shape).eval()(x).argmax(1), CLASSES)


def labels_of(held: Samples) -> Tensor:
    assert held.labels is not None
    return held.labels


def says(message: str, call) -> None:
    with pytest.raises(InputError, match=message):
        call()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("features") / "run"
    others = {"like": Deep(), "wider": Deep(6)}
    train_perturber(Deep(), samples(), RECIPE, out, held_out=samples(90, 1), others=others, every=60)
    return out


def test_it_fools_what_noise_of_the_same_norm_does_not_and_says_whose_features_it_reads(folder):
    about, held = json.loads((folder / "run.json").read_text()), samples(90, 1)
    noise = attacks.run(uniform_noise(), Deep(), held.x, labels_of(held), EPS).fooled.double().mean()
    assert about["measures"]["success"] > 0.8 > 0.4 > noise
    config = about["config"]
    assert (config["layer"], config["layer_shape"], config["layer_of"]) == ("body", [4, 4, 4], state_hash(Deep()))
    assert config["layer_of"] != state_hash(Deep(6))
    reads = load_perturber(folder).reads
    assert reads is not None
    assert (reads.layer, reads.shape, reads.sha256) == ("body", (4, 4, 4), state_hash(Deep()))


def test_nothing_but_the_features_tells_one_input_from_another(folder):
    perturber, x, same = load_perturber(folder), samples(8, 2).x, torch.zeros(8, dtype=torch.int64)
    around, z = perturber.threat.around(x * 0.4 + 0.3), torch.zeros(8, 3)  # far from the walls
    looks = Deep().eval().body(x - 0.5)
    delta = (perturber.within(around, same, z, looks) - around.x).flatten(1)
    alike = (perturber.within(around, same, z, looks[:1].expand(8, -1, -1, -1)) - around.x).flatten(1)
    assert bool((torch.cdist(delta, delta) > 1e-3).any(1).all())
    torch.testing.assert_close(alike, alike[:1].expand(8, -1), rtol=0, atol=1e-6)


def test_the_look_at_the_features_is_a_query_and_no_pass_through_the_victim_is_hidden(folder):
    victim, held = Deep(), samples(90, 1)
    result = attacks.run(Generated(load_perturber(folder)), victim, held.x, labels_of(held), EPS)
    assert int(result.queries.sum()) == victim.rows
    assert result.queries.unique().tolist() == [3]  # the clean input, its features, the proposal
    assert int(result.backwards.sum()) == 0
    assert not attacks.run(
        Generated(load_perturber(folder)), victim, held.x, labels_of(held), EPS, max_queries=2
    ).fooled.any()


def test_what_was_saved_is_what_the_loop_measures_and_holds_nothing_of_the_victim(folder):
    held, perturber = samples(90, 1), load_perturber(folder)
    measured = json.loads((folder / "run.json").read_text())["measures"]
    found = success(Generated(perturber), Deep(), held.x, labels_of(held))
    assert found.share == pytest.approx(measured["success"], abs=1e-12)
    assert {name.split(".")[0] for name in perturber.watches(Deep()).state_dict()} == {"net"}
    assert {name.split(".")[1] for name in perturber.state_dict()} == {"common", "enter", "told", "rise"}


def test_on_its_own_it_needs_a_model_to_watch(folder):
    perturber, held = load_perturber(folder), samples(20, 1)
    z = torch.zeros(20, 3)
    says("reads the layer 'body'", lambda: perturber(held.x, labels_of(held), z))
    alone = perturber.watches(Deep().eval())(held.x, labels_of(held), z)
    assert perturber.threat.around(held.x).size(alone).isfinite().all()


def test_other_models_are_shown_what_was_made_of_its_own_and_are_not_looked_into(folder):
    measures, held = json.loads((folder / "run.json").read_text())["measures"], samples(90, 1)
    assert measures["transfer_like"] == measures["success"]
    closed, attack = Deep(6), Generated(load_perturber(folder))
    carried = attacks.run(
        Transferred(attack, Deep()), Victim(closed, Access.DECISION), held.x, labels_of(held), EPS, batch_size=40
    )
    assert carried.queries[carried.step != 0].unique().tolist() == [2]
    assert int(carried.queries.sum()) <= closed.rows
    right = carried.step != 0
    assert float(carried.fooled[right].double().mean()) == pytest.approx(measures["transfer_wider"], abs=1e-12)


def test_it_goes_through_cascades_and_warm_starts(folder):
    held, attack = samples(90, 1), Generated(load_perturber(folder), tries=2)
    for both in (attacks.Cascade((attack, attacks.APGD(5))), attacks.Warm(attack, attacks.APGD(5))):
        alone, more = (attacks.run(each, Deep(), held.x, labels_of(held), "linf:0.05") for each in (attack, both))
        assert bool((more.fooled | ~alone.fooled).all())
        assert torch.equal(more.x_adv[alone.fooled], alone.x_adv[alone.fooled])


def test_a_run_that_was_interrupted_and_resumed_is_the_uninterrupted_one(tmp_path):
    def stop(step, row):
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    def trained(name, **options):
        return train_perturber(Deep(), samples(), replace(QUICK, gan_weight=0.5), tmp_path / name, every=3, **options)

    trained("whole")
    with pytest.raises(KeyboardInterrupt):
        trained("parts", progress=stop)
    trained("parts", resume=True)
    whole, parts = ((tmp_path / name / "generator.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole == parts
    other = Deep()
    with torch.no_grad():
        other.head.weight *= 1.01  # the same answers, from another model
    says(
        "layer_of",
        lambda: train_perturber(
            other, samples(), replace(QUICK, gan_weight=0.5), tmp_path / "parts", every=3, resume=True
        ),
    )


@pytest.mark.parametrize(
    ("shape", "layer", "net"),
    [((12,), "body", Flat), (SHAPE, "flat", Decoder), (SHAPE, "head", Decoder), ((2, 6, 10), "body", Decoder)],
)
def test_maps_and_numbers_are_read_for_images_and_vectors(shape, layer, net, tmp_path):
    data, victim = samples(shape=shape), Deep(shape=shape)
    train_perturber(victim, data, replace(QUICK, layer=layer, low=-0.5, high=1.5), tmp_path / "run")
    perturber = load_perturber(tmp_path / "run")
    assert isinstance(perturber.net, net)
    found = attacks.run(
        Generated(perturber), victim, data.x, labels_of(data), attacks.linf(0.1, bounds=(-0.5, 1.5)), batch_size=50
    )
    assert found.queries.unique().tolist() == [3]


def test_what_does_not_fit_is_refused(folder, tmp_path):
    held, attack = samples(20, 1), Generated(load_perturber(folder))

    def run(victim):
        return attacks.run(attack, victim, held.x, labels_of(held), EPS)

    says("needs GRADIENT, the victim reveals SCORES", lambda: run(Victim(Deep(), Access.SCORES)))
    says("trained on \\[4, 4, 4\\] numbers of the layer 'body'.* gives \\[6, 4, 4\\]", lambda: run(Deep(6)))
    says("no layer 'body'", lambda: run(nn.Sequential(nn.Flatten(), nn.Linear(64, 3))))
    says(
        "no layer 'bodies'", lambda: train_perturber(Deep(), samples(), replace(QUICK, layer="bodies"), tmp_path / "a")
    )
    says("name it", lambda: replace(QUICK, layer=""))
    says("universal perturbation reads nothing", lambda: replace(QUICK, kind="universal"))
    assert not (tmp_path / "a").exists()
