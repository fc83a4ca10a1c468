"""Denoisers that come with the package: found before training, in half precision, and none that holds a face."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from gahb import Recipe, datasets, metrics, train
from gahb.companion import cli, scales
from gahb.training import shipping, store

HOW = {
    "network": "ResUNet", "network_kwargs": {"channels": 4, "blocks": 1}, "batch_size": 8, "images_seen": 800,
    "optimizer": "muon", "learning_rate": 5e-3, "lr_schedule": "one-cycle", "loss_weighting": 0.75,
}  # fmt: skip


def disks(**changes):
    return replace(Recipe("disks-N64", {"class": "disks", "n": 64, "size": 12, "seed": 0}, **HOW), **changes)


def photographs(n, name=None):
    data = {"class": "faces", "part": "S1", "n": n, "size": 12, "sha256": "0" * 64}
    return Recipe(name or f"faces-S1-N{n}", data, **HOW)


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "pretrained")
    return tmp_path / "pretrained" / "laptop"


@pytest.fixture
def folder(tmp_path):
    """A store with one denoiser of disks."""
    store.trained(disks(), tmp_path / "store", "cpu", progress=False)
    return tmp_path / "store"


def test_a_shipped_denoiser_is_found_without_training(folder, package, tmp_path, monkeypatch):
    assert shipping.ship([disks()], package, folder) == [store.identity(disks())]
    monkeypatch.setattr(store, "train", lambda *_: pytest.fail("it was trained"))
    net = store.trained(disks(), tmp_path / "empty", "cpu")
    assert store.has(disks(), tmp_path / "empty") and not store.has(disks(seed=1), tmp_path / "empty")
    assert not (tmp_path / "empty").exists()
    assert all(p.dtype == torch.float32 for p in net.parameters())


def test_half_precision_moves_no_curve_by_more_than_two_hundredths_of_a_decibel(folder, package):
    shipping.ship([disks()], package, folder)
    test = datasets.disks(20, 12, seed=1)
    whole, half = (
        metrics.psnr_table(store.load(place / store.identity(disks())), test, (1, 0.3, 0.1, 0.03, 0.01), 0)
        for place in (folder, package)
    )
    assert 0 < float((whole - half).abs().max()) < 0.02


def test_a_class_whose_error_is_tiny_is_shipped_whole(folder, package, monkeypatch):
    monkeypatch.setattr(shipping, "WHOLE", ("disks",))
    shipping.ship([disks()], package, folder)
    ours, theirs = (store.load(place / store.identity(disks())).state_dict() for place in (folder, package))
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_the_store_comes_first(folder, package):
    shipping.ship([disks()], package, folder)
    exact = store.load(folder / store.identity(disks())).state_dict()
    found = store.trained(disks(), folder, "cpu").state_dict()
    assert all(torch.equal(found[key], value) for key, value in exact.items())


def test_images_that_differ_in_the_last_digit_on_another_machine_are_no_matter(folder, package, tmp_path):
    shipping.ship([disks()], package, folder)
    other = (store.training_images(disks()) + 1e-7).clamp(0, 1)
    with pytest.raises(ValueError, match="trained on other images"):
        store.trained(disks(images=other), folder, "cpu")
    store.trained(disks(images=other), tmp_path / "empty", "cpu")


def test_networks_of_few_photographs_are_not_shipped(folder, package):
    few = photographs(1_000)
    net = train(torch.rand(9, 1, 12, 12), few, progress=False)
    store._save(net, few, torch.rand(9, 1, 12, 12), folder / store.identity(few), torch.device("cpu"))
    assert shipping.ship([few, disks()], package, folder) == [store.identity(disks())]
    assert [path.name for path in package.iterdir()] == [store.identity(disks())]
    assert shipping.may_be_shipped(photographs(10_000)) and not shipping.may_be_shipped(photographs(9_999))


def test_what_the_store_lacks_is_named_and_nothing_is_written(folder, package):
    with pytest.raises(FileNotFoundError, match=r"lacks disks-N65; train"):
        shipping.ship([disks(), disks(name="disks-N65")], package, folder)
    assert not package.exists()


def test_the_command_names_what_it_copied(tmp_path):
    """Of the smoke scale only the synthetic classes may be shipped."""
    scale, folder = scales.get("smoke"), tmp_path / "store"
    for recipe in scales.recipes(scale, scales.faces(scale), scales.scenes(scale)):
        if shipping.may_be_shipped(recipe):
            few = replace(recipe, images_seen=32)
            net = train(torch.rand(4, 1, 20, 20), few, progress=False)
            store._save(net, recipe, torch.rand(4, 1, 20, 20), folder / store.identity(recipe), torch.device("cpu"))
    done = CliRunner().invoke(cli.main, ["store", "ship", "--store", str(folder), "--to", str(tmp_path / "to")])
    assert done.exit_code == 0, done.output
    names = done.output.split()
    assert {name.split("-N")[0] for name in names} == {
        "c_alpha-1", "c_alpha-2", "c_alpha-3", "c_alpha-4", "c_alpha-1.5-background-8", "c_alpha-2-background-8",
        "c_alpha-4-background-8", "disks", "ray", "sinusoids",
    }  # fmt: skip
    assert {path.name for path in (tmp_path / "to").iterdir()} == set(names)


def test_what_the_package_holds():
    """Every denoiser in gahb/pretrained is whole, in half precision, of a recipe of its scale, and holds no face."""
    folders = sorted(store.SHIPPED.glob("*/*/"))
    # Of each: faces and scenes twice, 7 of C-alpha, disks, ray, sinusoids, shuffled.
    assert Counter(folder.parent.name for folder in folders) == {"laptop": 15}
    for folder in folders:
        recipe = Recipe(**json.loads((folder / "recipe.json").read_text())["recipe"])
        assert store.identity(recipe) == folder.name
        assert shipping.may_be_shipped(recipe)
        tensors, _ = store.read_tensors(folder / "weights.safetensors")
        kept = torch.float32 if recipe.data["class"] in shipping.WHOLE else torch.float16
        assert {value.dtype for value in tensors.values()} == {kept}
        assert store.load(folder) is not None
        scale = scales.SCALES.get(folder.parent.name, scales.get("paper"))  # of whose sizes are those to come
        assert recipe.data["size"] in (scale.face_size, scale.scene_size, scale.class_size)
        if recipe.data["class"] in ("faces", "scenes", "shuffled faces") and folder.parent.name in scales.SCALES:
            assert {key: getattr(recipe, key) for key in scale.training} == scale.training
    synthetic = scales.recipes(scales.get("laptop"), None, None)
    assert {store.identity(recipe) for recipe in synthetic} <= {folder.name for folder in folders}


def test_shipped_networks_of_faces_work_without_any_faces_given(package, tmp_path):
    scale = scales.get("laptop")
    for recipe in (photographs(10_000), photographs(10_000, "shuffled-N10000")):
        net = train(torch.rand(9, 1, 12, 12), recipe, progress=False)
        store._save(net, recipe, torch.rand(9, 1, 12, 12), tmp_path / store.identity(recipe), torch.device("cpu"))
        shipping.ship([recipe], package, tmp_path)
    faces = scales.faces(scale)
    assert faces.test.shape == (scales.STAND_INS, 1, scale.face_size, scale.face_size)
    assert scales.photograph_recipe(scale, faces, "S1").settings() == photographs(10_000).settings()
    assert scales.shuffled_recipe(scale, faces).name == "shuffled-N10000"
    for ask in ({"N": 10}, {"seed": 1}):
        with pytest.raises(ValueError, match=r"does not come with gahb.*at least 20,500 with faces="):
            scales.photograph_recipe(scale, faces, "S1", **ask)
