"""The store: what decides a network's folder, what it holds, and that it survives full disks."""

import csv
import errno
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import assert_same_weights, assert_undisturbed, contents, get, pixels, recipe

import gahb
from gahb import datasets
from gahb._util import devices
from gahb.training import Recipe, TrainingStopped, load_or_train, loop, store, train
from gahb.training.store import identity, load, pick_device, stored

# --- identity -------------------------------------------------------------------------------------

CHANGES = {
    "name": "other",
    "data": {"class": "random", "n": 3},
    "network": "UNet",
    "network_kwargs": {"depth": 4, "channels": 4},
    "sigma_max": 0.5,
    "noise_distribution": "sqrt-uniform",
    "loss_weighting": 1.0,
    "batch_size": 4,
    "images_seen": 161,
    "optimizer": "muon",
    "learning_rate": 2e-3,
    "lr_schedule": "one-cycle",
    "lr_halving_images": 7,
    "precision": "bfloat16",
    "compile": True,
    "seed": 1,
}


def test_every_field_is_part_of_the_identity():
    assert set(CHANGES) == set(Recipe.__dataclass_fields__)
    names = {identity(recipe())} | {identity(replace(recipe(), **{key: value})) for key, value in CHANGES.items()}
    assert len(names) == 1 + len(CHANGES)


def test_nothing_else_is():
    same = [
        recipe(network_kwargs={"channels": 4, "depth": 3}),
        recipe(sigma_max=1, loss_weighting=0, batch_size=np.int64(8), seed=np.int32(0), compile=np.False_),
        replace(recipe()),
    ]
    assert {identity(one) for one in same} == {identity(recipe())}
    assert identity(Recipe("a", {"shape": (1, 2)})) == identity(Recipe("a", {"shape": [1, 2]}))


def test_identity_is_pinned():
    """Written out by hand: if it changes, every store that anyone has trained is lost."""
    settings = (
        '{"batch_size": 8, "compile": false, "data": {"class": "random"}, "images_seen": 160, "learning_rate": 0.001, '
        '"loss_weighting": 0.0, "lr_halving_images": 100000000, "lr_schedule": "halving", "name": "tiny", '
        '"network": "BFCNN", "network_kwargs": {"channels": 4, "depth": 3}, "noise_distribution": "uniform", '
        '"optimizer": "adam", "precision": "float32", "seed": 0, "sigma_max": 1.0}'
    )
    assert identity(recipe()) == "tiny-" + hashlib.sha256(settings.encode()).hexdigest()[:10] == "tiny-770bddc4ac"


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "..", ".hidden", "", "a b", "x\n", "ä", "-rf"])
def test_names_that_would_leave_the_folder(name, tmp_path):
    with pytest.raises(ValueError, match="the name of a recipe must be letters"):
        get(tmp_path / "store", recipe(name))
    assert list(tmp_path.iterdir()) == []


# --- what is kept -----------------------------------------------------------------------------------


def test_files_and_second_call(tmp_path, monkeypatch, capsys):
    root = tmp_path / "mein Speicher é 雪"
    assert not store.has(recipe(), root)
    assert_undisturbed(get(root))
    assert store.has(recipe(), root) and not store.has(recipe(seed=1), root)
    (folder,) = root.iterdir()
    assert folder.name == identity(recipe())
    held = {"history.csv", "recipe.json", "weights.safetensors"}
    assert {file.name for file in folder.iterdir()} - {".lock"} == held
    about = json.loads((folder / "recipe.json").read_text())
    assert about["recipe"] == {
        "name": "tiny", "data": {"class": "random"}, "network": "BFCNN", "network_kwargs": {"depth": 3, "channels": 4},
        "sigma_max": 1.0, "noise_distribution": "uniform", "loss_weighting": 0.0, "batch_size": 8, "images_seen": 160,
        "optimizer": "adam", "learning_rate": 1e-3, "lr_schedule": "halving", "lr_halving_images": 100_000_000,
        "precision": "float32", "compile": False, "seed": 0,
    }  # fmt: skip
    made = about["made"]
    assert (made["gahb"], made["torch"], made["device"]) == (gahb.__version__, torch.__version__, "cpu")
    assert (made["images_seen"], made["threads"]) == (160, torch.get_num_threads())
    assert 0 <= made["seconds"] < 60
    with (folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    history = train(pixels(), recipe(), progress=False).history
    assert [int(row["images"]) for row in rows] == list(range(8, 161, 8))
    assert [float(row["loss"]) for row in rows] == [row["loss"] for row in history]
    assert rows[0].keys() == {"images", "loss", "learning_rate", "seconds"}
    weights = safetensors.torch.load_file(folder / "weights.safetensors")
    assert {key: tuple(value.shape) for key, value in weights.items()} == {
        "noise.0.weight": (4, 1, 3, 3), "noise.2.weight": (4, 4, 3, 3), "noise.3.gain": (4,),
        "noise.3.running_sd": (4,), "noise.5.weight": (1, 4, 3, 3),
    }  # fmt: skip
    before = contents(root)
    monkeypatch.setattr(store, "train", None)  # a second call cannot train
    assert_undisturbed(get(root))
    assert_undisturbed(load_or_train(recipe(), store=str(root), device="cpu"))  # without its images
    assert contents(root) == before
    assert stored(root) == [about | {"folder": folder.name}]
    assert capsys.readouterr() == ("", "")


def test_stored_lists_in_order_and_only_what_is_there(tmp_path):
    assert stored(tmp_path / "none") == []
    for name in ("b", "a"):
        get(tmp_path, recipe(name, images_seen=8))
    with pytest.raises(TrainingStopped):
        get(tmp_path, recipe("c", images_seen=10**7), time_limit=0.01)
    (tmp_path / "notes.txt").write_text("mine")
    assert [row["recipe"]["name"] for row in stored(tmp_path)] == ["a", "b"]


def test_images_of_a_generator(tmp_path):
    asked = recipe(data={"class": "disks", "n": 5, "size": 12, "seed": 3})
    net = load_or_train(asked, store=tmp_path, device="cpu", progress=False)
    assert_same_weights(net, train(datasets.disks(5, 12, seed=3), asked, progress=False))
    for data in ({"class": "random"}, {"class": "faces", "sha256": "0"}, {}):
        with pytest.raises(ValueError, match=r"other needs its training images: its data .* name no generator"):
            load_or_train(recipe("other", data=data), store=tmp_path, device="cpu")


def test_other_images_under_the_same_recipe_are_refused(tmp_path):
    """Photographs have their checksum in the data; without it two sets could not be told apart."""
    get(tmp_path)
    assert_undisturbed(get(tmp_path, images=pixels().float() / 255))
    with pytest.raises(ValueError, match=r"was trained on other images than these: .* checksum"):
        get(tmp_path, images=pixels().flip(0))
    with pytest.raises(TypeError, match="images must be a torch"):
        get(tmp_path, images="runs/store")


def test_colour_and_unet_come_back_the_same(tmp_path):
    colour = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    asked = recipe(network="UNet", network_kwargs={"channels": 4, "blocks": 1})
    first = get(tmp_path, asked, colour)
    second = load(tmp_path / identity(asked))
    with torch.no_grad():
        assert torch.equal(first(colour), second(colour))


def test_default_store(tmp_path, monkeypatch):
    monkeypatch.setenv("GAHB_STORE", str(tmp_path / "mine"))
    assert_undisturbed(get(None))
    assert (tmp_path / "mine" / identity(recipe()) / "weights.safetensors").is_file()


@pytest.mark.parametrize("device", ["abacus", "cuda:99", "meta", "", "CPU ", 3.5])
def test_unknown_device(device, tmp_path):
    with pytest.raises(ValueError, match=r"device .* is not available here; take auto or one of .*cpu"):
        load_or_train(recipe(), pixels(), tmp_path, device)
    assert list(tmp_path.iterdir()) == []


def test_known_devices(monkeypatch):
    assert pick_device("cpu") == pick_device(torch.device("cpu")) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for there in (True, False):  # without float64, mps is for those who ask for it
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda there=there: there)
        assert pick_device("auto").type == pick_device().type == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("mps").type == "mps"


def test_a_number_that_no_device_has_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(devices, "_cuda_fault", lambda device: "")
    assert pick_device("cuda:1") == torch.device("cuda:1") and pick_device("cuda").type == "cuda"
    for device in ("cuda:2", "cuda:7", "cpu:3"):
        with pytest.raises(ValueError, match=f"device '{device}' is not available here"):
            pick_device(device)


# --- full disks: damaged files and read-only folders are rows of faults_store.py -------------------------------------


def test_disk_full_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_tensors", full)
        with pytest.raises(OSError, match="No space left"):
            get(tmp_path)
    assert stored(tmp_path) == []
    assert_undisturbed(get(tmp_path))


def test_a_name_is_no_recipe(tmp_path):
    with pytest.raises(TypeError, match=r"recipe must be a gahb.Recipe, got str"):
        load_or_train("disks", store=tmp_path)
