"""Networks that come with the package: found before training, in half precision, and none holds a person's face."""

import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import assert_same_weights

from gahb import Recipe, datasets, load_or_train, metrics
from gahb.companion import scales
from gahb.training import store

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

import pretrain

HOW = {
    "network": "ResUNet", "network_kwargs": {"channels": 4, "blocks": 1}, "batch_size": 8, "images_seen": 800,
    "optimizer": "muon", "learning_rate": 5e-3, "lr_schedule": "one-cycle", "loss_weighting": 0.75,
}  # fmt: skip
DISKS = Recipe("disks-N64", {"class": "disks", "n": 64, "size": 12, "seed": 0}, **HOW)


def of_photographs(n, name=None):
    data = {"class": "faces", "part": "S1", "n": n, "size": 12, "sha256": "0" * 64}
    return Recipe(name or f"faces-S1-N{n}", data, **HOW | {"images_seen": 8})


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder of a scale in a package without networks."""
    monkeypatch.setattr(store, "PRETRAINED", tmp_path / "pretrained")
    return tmp_path / "pretrained" / "laptop"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A store with one network of disks, for all tests."""
    folder = tmp_path_factory.mktemp("trained")
    load_or_train(DISKS, store=folder, device="cpu", progress=False)
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of it."""
    return shutil.copytree(trained, tmp_path / "store")


def test_a_pretrained_network_is_found_without_training(folder, package, tmp_path, monkeypatch):
    assert pretrain.copy([DISKS], package, folder) == [store.identity(DISKS)]
    monkeypatch.setattr(store, "train", lambda *_: pytest.fail("it was trained"))
    net = load_or_train(DISKS, store=tmp_path / "empty", device="cpu")
    assert store.has(DISKS, tmp_path / "empty") and not store.has(replace(DISKS, seed=1), tmp_path / "empty")
    assert store.pretrained_recipe("laptop", "disks-N64") == DISKS
    assert store.pretrained_recipe("laptop", "disks-N64", seed=1) is store.pretrained_recipe("paper", "disks") is None
    assert not (tmp_path / "empty").exists()
    assert all(p.dtype == torch.float32 for p in net.parameters())


def test_half_precision_moves_no_curve_by_more_than_two_hundredths_of_a_decibel(folder, package):
    pretrain.copy([DISKS], package, folder)
    test = datasets.disks(20, 12, seed=1)
    whole, half = (
        metrics.squared_errors(store.load(place / store.identity(DISKS)), test, (1, 0.3, 0.1, 0.03, 0.01), 0).log10()
        for place in (folder, package)
    )
    assert 0 < float(10 * (whole - half).abs().max()) < 0.02


def test_a_class_whose_error_is_tiny_keeps_full_precision(folder, package, monkeypatch):
    monkeypatch.setattr(pretrain, "WHOLE", ("disks",))
    pretrain.copy([DISKS], package, folder)
    assert_same_weights(*(store.load(place / store.identity(DISKS)) for place in (folder, package)))


def test_the_store_comes_before_the_package(folder, package):
    pretrain.copy([DISKS], package, folder)
    assert_same_weights(load_or_train(DISKS, store=folder, device="cpu"), store.load(folder / store.identity(DISKS)))


def test_generated_images_may_differ_in_the_last_digit_on_another_machine(folder, package, tmp_path):
    pretrain.copy([DISKS], package, folder)
    other = (store.generated_images(DISKS) + 1e-7).clamp(0, 1)
    with pytest.raises(ValueError, match="trained on other images"):
        load_or_train(DISKS, other, folder, "cpu")
    load_or_train(DISKS, other, tmp_path / "empty", "cpu")


def test_networks_of_few_photographs_are_not_copied(folder, package):
    few, many = of_photographs(9_999), of_photographs(10_000)
    for recipe in (few, many):
        load_or_train(recipe, torch.rand(9, 1, 12, 12), folder, "cpu", progress=False)
    copied = [store.identity(many), store.identity(DISKS)]
    assert pretrain.copy([few, many, DISKS], package, folder) == copied
    assert {path.name for path in package.iterdir()} == set(copied)


def test_what_the_store_lacks_is_named_and_nothing_is_written(folder, package):
    with pytest.raises(FileNotFoundError, match=r"lacks disks-N65; train"):
        pretrain.copy([DISKS, replace(DISKS, name="disks-N65")], package, folder)
    assert not package.exists()


def test_what_the_package_holds():
    """Every pretrained network is intact, in half precision, of a recipe of its scale, and holds no face."""
    folders = sorted(store.PRETRAINED.glob("*/*/"))
    # Faces three times and scenes twice, 7 of C-alpha, disks, ray, sinusoids, shuffled faces.
    assert Counter(folder.parent.name for folder in folders) == {"laptop": 16}
    for folder in folders:
        recipe, scale = Recipe(**store.about(folder)["recipe"]), scales.get(folder.parent.name)
        assert store.identity(recipe) == folder.name and pretrain.may_be_public(recipe)
        tensors, about = store.read_tensors(folder / "weights.safetensors")
        kept = torch.float32 if recipe.data["class"] in pretrain.WHOLE else torch.float16
        assert {value.dtype for value in tensors.values()} == {kept}
        for key, value in store.load(folder).state_dict().items():
            assert torch.equal(value, tensors[key].float())
        assert about["network_kwargs"] == {"in_channels": 1, **recipe.network_kwargs}
        size = {"faces": scale.face_size, "shuffled faces": scale.face_size, "scenes": scale.scene_size}
        if recipe.data.get("beta", 0) is None:  # of Figure 4
            size["c_alpha"] = scale.c_alpha_size
        assert recipe.data["size"] == size.get(recipe.data["class"], scale.class_size)
        if "sha256" in recipe.data:
            assert {key: getattr(recipe, key) for key in scale.training} == scale.training
    synthetic = scales.recipes(scales.get("laptop"), None, None)
    assert {store.identity(recipe) for recipe in synthetic} <= {folder.name for folder in folders}


def test_pretrained_networks_of_faces_work_without_any_faces_given(package, tmp_path):
    scale = scales.get("laptop")
    for recipe in (of_photographs(10_000), of_photographs(10_000, "shuffled-N10000")):
        load_or_train(recipe, torch.rand(9, 1, 12, 12), tmp_path, "cpu", progress=False)
        pretrain.copy([recipe], package, tmp_path)
    faces = scales.faces(scale)
    assert faces.test.shape == (scales.STAND_INS, 1, scale.face_size, scale.face_size)
    assert scales.photograph_recipe(scale, faces, "S1") == of_photographs(10_000)
    assert scales.shuffled_recipe(scale, faces).name == "shuffled-N10000"
    for asked in ({"N": 10}, {"seed": 1}):
        with pytest.raises(ValueError, match=r"does not come with gahb.*at least 20,500 with faces="):
            scales.photograph_recipe(scale, faces, "S1", **asked)
