"""Rows of the table of faults: files of the store, disks and permissions."""

import errno
import os
import re
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from faults_expected import ASKED, GOOD, PIXELS, assert_undisturbed, goes_on, refused, told
from test_files import full_disk
from test_sources import fill
from test_store import DAMAGE, contents, folder_of, get, recipe

from gahb.companion import claims, plotting
from gahb.companion.cli import main
from gahb.datasets import faces
from gahb.training import loop, shipping, store
from gahb.training.loop import TrainingStopped, train

# --- Files of the store -----------------------------------------------------------------------------------------------


def damaged(kind, name):
    """Weights or a checkpoint that were damaged: set aside, and the same weights are made again."""

    def provoke(tmp_path):
        if name == "checkpoint.safetensors":
            with pytest.raises(TrainingStopped):
                get(tmp_path, time_limit=0.01)
        else:
            get(tmp_path)
        file = folder_of(tmp_path) / name
        bad = DAMAGE[kind](file.read_bytes())
        file.write_bytes(bad)
        assert_undisturbed(get(tmp_path))
        assert file.with_name(f"{name}.damaged").read_bytes() == bad
        return "made again"

    return provoke


def foreign_checkpoint(tmp_path):
    folder_of(tmp_path).mkdir()
    with pytest.raises(TrainingStopped):
        train(recipe().images, recipe(seed=1), "cpu", folder_of(tmp_path) / "checkpoint.safetensors", 0.01, False)
    assert_undisturbed(get(tmp_path))
    return "made again"


def checkpoint_beside_weights(tmp_path):
    """Killed after it wrote the weights, before it removed the checkpoint."""
    get(tmp_path)
    (folder_of(tmp_path) / "checkpoint.safetensors").write_bytes(b"of no use any more")
    assert_undisturbed(get(tmp_path))
    return sorted(file.name for file in folder_of(tmp_path).glob("*.safetensors"))


def recipe_json(text):
    """A ``recipe.json`` that was damaged: the others are listed, and its weights are still found."""

    def provoke(tmp_path):
        for name in ("a", "b"):
            get(tmp_path, recipe(name, images_seen=8))
        (tmp_path / store.identity(recipe("a", images_seen=8)) / "recipe.json").write_text(text)
        result = CliRunner().invoke(main, ["list", "--store", str(tmp_path)])
        assert result.exit_code == 0, result.output
        assert store.has(recipe("a", images_seen=8), tmp_path)
        return re.findall(r"^(\w)-", result.output, flags=re.MULTILINE)

    return provoke


def altered_recipe(tmp_path):
    get(tmp_path)
    file = folder_of(tmp_path) / "recipe.json"
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 1'))
    return store.stored(tmp_path)


def beside_the_figures(name, text):
    """``claims.json`` or ``provenance.json`` was damaged: it is told at once, and left as it is."""

    def provoke(tmp_path):
        folder = tmp_path / "figures" / "smoke"
        claims.record("5.2", {"cosine": 0.95}, "smoke", folder)
        plotting.note(folder, lambda record: record.update(scale={"name": "smoke"}))
        (folder / name).write_bytes(text.encode("latin-1"))
        if name == "claims.json":
            return ["claims", "--figures", str(folder.parent)]
        return ["reproduce", "--only", "06", "--figures", str(folder.parent), "--runs", str(tmp_path / "runs")]

    return provoke


def prepared(kind):
    def provoke(tmp_path):
        folder = fill(tmp_path / "f", GOOD, height=16, width=16)
        before = faces(folder, **ASKED, cache=tmp_path / "cache")
        (file,) = (tmp_path / "cache").glob("*/pixels.safetensors")
        good = file.read_bytes()
        file.write_bytes(DAMAGE[kind](good))
        after = faces(folder, **ASKED, cache=tmp_path / "cache")
        assert torch.equal(before.pixels, after.pixels) and file.read_bytes() == good
        return "made again"

    return provoke


def other_images(tmp_path):
    get(tmp_path)
    get(tmp_path, recipe(images=recipe().images.flip(0)))


def foreign_safetensors(tmp_path):
    """A whole file of safetensors that gahb did not write."""
    get(tmp_path)
    safetensors.torch.save_file({"a": torch.ones(2)}, folder_of(tmp_path) / "weights.safetensors")
    assert_undisturbed(get(tmp_path))
    return "made again"


def of_another_denoiser(tmp_path):
    """Weights that were copied from the folder of another recipe of the same network."""
    get(tmp_path)
    get(tmp_path, recipe(seed=1))
    other = tmp_path / store.identity(recipe(seed=1)) / "weights.safetensors"
    (folder_of(tmp_path) / "weights.safetensors").write_bytes(other.read_bytes())
    assert not store.has(recipe(), tmp_path) and other.is_file()
    assert_undisturbed(get(tmp_path))
    return "made again"


def a_checkpoint_as_weights(tmp_path):
    get(tmp_path)
    with pytest.raises(TrainingStopped):
        get(tmp_path, recipe(seed=1), time_limit=0.01)
    other = tmp_path / store.identity(recipe(seed=1)) / "checkpoint.safetensors"
    (folder_of(tmp_path) / "weights.safetensors").write_bytes(other.read_bytes())
    assert_undisturbed(get(tmp_path))
    return "made again"


def listed_with_damaged_weights(tmp_path):
    get(tmp_path)
    os.truncate(folder_of(tmp_path) / "weights.safetensors", 100)
    return store.stored(tmp_path)


def seconds_gone(tmp_path):
    """A ``recipe.json`` whose seconds are null."""
    get(tmp_path)
    file = folder_of(tmp_path) / "recipe.json"
    file.write_text(re.sub(r'"seconds": [\d.]+', '"seconds": null', file.read_text()))
    return store.stored(tmp_path)


def ship_damaged(tmp_path):
    chosen = replace(recipe(), data={"class": "disks"})
    get(tmp_path, chosen)
    os.truncate(tmp_path / store.identity(chosen) / "weights.safetensors", 100)
    try:
        with pytest.warns(UserWarning, match=NOTICED.format("weights")):
            shipping.ship([chosen], tmp_path / "to", tmp_path)
    finally:
        assert not (tmp_path / "to").exists()


KINDS = {"empty": "zero bytes", "truncated": "truncated", "altered": "altered", "pickle": "a pickle"}
NOTICED = r"^{0}\.safetensors in [\w-]+ is damaged \(.+\); set aside as {0}\.safetensors\.damaged"
UNREADABLE = r"recipe\.json in [\w-]+ cannot be read"
BROKEN = {"zero bytes": "", "truncated": '{"made": {"gahb', "a dict": "{}", "a list": "[]", "keys": '{"made": {}}'}
RECORDS = {
    "claims.json": {"a dict": "{}", "numbers": "[1]", "no names": '[{"id": "5.2", "measured": 0.95}]'},
    "provenance.json": {"a list": "[]", "a word": '{"scale": "smoke"}', "no keys": '{"data": {"faces": {}}}'},
}
ALTERED = r"{} in .*smoke is damaged or was altered \(.+\); put an earlier copy back, or move it away and run the note"
STORE = [
    *(
        (f"{name}: {KINDS[kind]}", damaged(kind, f"{name}.safetensors"), goes_on("made again", NOTICED.format(name)))
        for name in ("weights", "checkpoint")
        for kind in DAMAGE
    ),
    *((f"cache: {KINDS[kind]}", prepared(kind), goes_on("made again", NOTICED.format("pixels"))) for kind in DAMAGE),
    *((f"recipe.json: {what}", recipe_json(text), goes_on(["b"], UNREADABLE)) for what, text in BROKEN.items()),
    *(
        (f"{name}: {what}", beside_the_figures(name, text), told(1, ALTERED.format(name)))
        for name, forms in RECORDS.items()
        for what, text in {"zero bytes": "", "truncated": '[{"id": "5', "no UTF-8": "[\xff", **forms}.items()
    ),
    ("recipe.json: altered", altered_recipe, goes_on([], f"{UNREADABLE}: it is not of the recipe that its folder")),
    ("weights: of another program", foreign_safetensors, goes_on("made again", NOTICED.format("weights"))),
    ("weights: of another denoiser", of_another_denoiser, goes_on("made again", "it holds the weights of tiny-")),
    ("weights: a checkpoint", a_checkpoint_as_weights, goes_on("made again", "it holds no weights")),
    ("weights: damaged, listed", listed_with_damaged_weights, goes_on([], NOTICED.format("weights"))),
    ("weights: damaged, shipped", ship_damaged, refused(ValueError, "weights in tiny-.* are damaged; train that")),
    ("recipe.json: null", seconds_gone, goes_on([], UNREADABLE)),
    ("weights: of other images", other_images, refused(ValueError, "was trained on other images .* checksum")),
    (
        "checkpoint: of another recipe",
        foreign_checkpoint,
        goes_on("made again", "of another recipe, and is set aside as checkpoint.safetensors.other; tiny starts anew"),
    ),
    ("checkpoint: left beside weights", checkpoint_beside_weights, goes_on(["weights.safetensors"])),
]


# --- Disks and permissions --------------------------------------------------------------------------------------------


def file_as(name, use):
    """A file where a folder should be; it is left alone."""

    def provoke(tmp_path):
        (tmp_path / name).write_text("mine")
        try:
            use(tmp_path)
        finally:
            assert (tmp_path / name).read_text() == "mine"

    return provoke


def photographs_in(tmp_path):
    np.save(tmp_path / "a.npy", PIXELS)
    faces(tmp_path / "a.npy", **ASKED, cache=tmp_path / "cache")


@contextmanager
def read_only():
    """As root may write anywhere, the system's refusal is played."""

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    with patch.object(store.Path, "mkdir", refuse), patch.object(os, "open", refuse):
        yield


def from_a_read_only_store(tmp_path):
    get(tmp_path)
    before = contents(tmp_path)
    with read_only():
        assert_undisturbed(get(tmp_path))
    return contents(tmp_path) == before


def into_a_read_only_store(tmp_path):
    with read_only():
        get(tmp_path)


def full(tmp_path):
    """The disk fills up in the middle of a training that has a checkpoint."""
    with pytest.raises(TrainingStopped):
        get(tmp_path, time_limit=0.01)
    before = (folder_of(tmp_path) / "checkpoint.safetensors").read_bytes()
    try:
        with full_disk(1000), patch.object(training, "CHECKPOINT_SECONDS", -1):
            get(tmp_path)
    finally:
        assert (folder_of(tmp_path) / "checkpoint.safetensors").read_bytes() == before
        assert not list(tmp_path.rglob("*.tmp"))
        assert_undisturbed(get(tmp_path))  # once there is room


def full_cache(tmp_path):
    fill(tmp_path / "f", GOOD, height=16, width=16)
    try:
        with full_disk(1000):
            faces(tmp_path / "f", **ASKED, cache=tmp_path / "cache")
    finally:
        assert not list((tmp_path / "cache").rglob("*.*safetensors*"))


ROOM = "could not be written in .*Free some space there or give another folder; what was there before is intact"
NO_STORE = "the store .*here.* cannot be written to: .*; give another store"
NO_CACHE = "prepared photographs cannot be kept in .*cache.*; give another store or cache"
DISKS = [
    (
        "a file where the store should be",
        file_as("store", lambda root: get(root / "store")),
        refused(OSError, NO_STORE),
    ),
    ("a file where the cache should be", file_as("cache", photographs_in), refused(OSError, NO_CACHE)),
    ("a read-only store that has it", from_a_read_only_store, goes_on(True)),
    ("a read-only store that lacks it", into_a_read_only_store, refused(OSError, NO_STORE)),
    ("disk full, training", full, refused(OSError, f"checkpoint.safetensors {ROOM}")),
    ("disk full, photographs", full_cache, refused(OSError, f"pixels.safetensors {ROOM}")),
]
