"""Scales and recipes: the paper's own settings, and one identity for each network."""

import math
from dataclasses import replace

import pytest
import torch

from gahb.companion import scales, tasks
from gahb.training import store


def test_paper_scale_is_the_papers():
    """Figures 1, 2 and 8, Appendix A."""
    paper = scales.get("paper")
    assert (paper.face_size, paper.face_N) == (40, (1, 10, 100, 1000, 10_000))
    assert (paper.scene_size, paper.scene_N) == (32, 20_000)
    assert (paper.step_size, paper.sigma_0, paper.sigma_end) == (0.01, 1, 0.01)
    for training in (paper.training, paper.synthetic_training):
        assert training["network"] == "BFCNN"
        assert training["network_kwargs"] == {"depth": 20, "channels": 64}
        assert training["batch_size"] == 512
        assert training["noise_distribution"] == "uniform"
    assert paper.class_N == 10_000
    assert paper.contour_alphas == (1.5, 2, 4)
    assert paper.background_alpha == 8


def test_sigmas_are_the_stated_input_psnr():
    for scale in scales.SCALES.values():
        assert [-20 * math.log10(s) for s in scale.sigmas] == pytest.approx(scale.input_db, abs=1e-9)
        assert scale.sigmas[0] == 1


@pytest.fixture(scope="module")
def smoke():
    scale = scales.get("smoke")
    return scale, scales.faces(scale), scales.scenes(scale)


def test_recipes_have_distinct_identities(smoke):
    recipes = scales.recipes(*smoke)
    assert len({store.identity(recipe) for recipe in recipes}) == len(recipes) == len(scales.names(smoke[0]))


def test_recipes_train_on_what_they_say(smoke):
    scale, faces, _ = smoke
    for part in ("S1", "S2"):
        images = scales.training_images(scales.photograph_recipe(scale, faces, part, 10), faces)
        assert torch.equal(images.float() / 255, getattr(faces, part)[:10])
    twin, other = scales.photograph_recipe(scale, faces, "S2"), scales.other_seed_recipe(scale, faces)
    assert torch.equal(scales.training_images(other, faces), scales.training_images(twin, faces))
    assert (other.seed, other.name) == (twin.seed + 1, "faces-S2-other-seed-N40")
    assert replace(other, seed=twin.seed, name=twin.name) == twin
    ordinary = scales.training_images(scales.photograph_recipe(scale, faces, "S1"), faces)
    shuffled = scales.training_images(scales.shuffled_recipe(scale, faces), faces)
    assert len(ordinary) == len(shuffled) == scale.face_N[-1]
    assert not torch.equal(ordinary, shuffled)
    assert torch.equal(ordinary.flatten(1).sort(1).values, shuffled.flatten(1).sort(1).values)
    for recipe in (scales.class_recipe(scale, name) for name in ("disks", "ray")):
        assert store.generated_images(recipe).shape == (scale.class_N, 1, scale.class_size, scale.class_size)
    for beta, size in ((None, 24), (8.0, scale.class_size)):
        recipe = scales.c_alpha_recipe(replace(scale, c_alpha_size=24), 2.0, beta)
        assert store.generated_images(recipe).shape == (scale.class_N, 1, size, size)


def test_seed_changes_every_recipe(smoke):
    first, second = ({store.identity(r) for r in scales.recipes(*smoke, seed=s)} for s in (0, 1))
    assert not first & second


@pytest.mark.parametrize(
    ("only", "chosen"),
    [
        (["faces-S1-N1"], ["faces-S1-N1"]),
        (
            ["faces-S1-N1", "faces-S2"],
            ["faces-S1-N1", "faces-S2-N1", "faces-S2-N10", "faces-S2-N40", "faces-S2-other-seed-N40"],
        ),
        (["faces-S2-N*"], ["faces-S2-N1", "faces-S2-N10", "faces-S2-N40"]),
        (["faces-S1-*"], ["faces-S1-N1", "faces-S1-N10", "faces-S1-N40"]),
        (["shuffled", "ray"], ["ray-N1000", "shuffled-N40"]),
        ([], scales.names(scales.get("smoke"))),
    ],
)
def test_networks_are_chosen_by_their_names_or_beginnings(only, chosen, tmp_path):
    found = tasks.of_scale(scales.get("smoke"), only, store=tmp_path)
    assert sorted(recipe.name for recipe, _ in found) == sorted(chosen)
    assert all((images is None) == ("sha256" not in recipe.data) for recipe, images in found)
