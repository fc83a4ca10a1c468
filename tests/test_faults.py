"""The table of faults: each way in which files, disks, processes and users fail, and what happens then."""

import errno
import importlib
import io
import os
import pickle
import re
import signal
import tarfile
import warnings
import zipfile
import zlib
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest.mock import patch

import nbformat
import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from PIL import Image
from test_files import full_disk
from test_photographs import picture
from test_sources import FORMS, PAGE, Malicious, fill, save
from test_store import DAMAGE, contents, folder_of, get, recipe

from gahb import claims, store, training
from gahb import figures as look
from gahb import reproduce as runner
from gahb.cli import main
from gahb.datasets import faces
from gahb.released import load_released
from gahb.training import TrainingFailed, TrainingStopped, train

GOOD = ["1.png", "2.png", "3.png", "m.png", "x.png", "y.png"]
ASKED = {"size": 12, "N": 2, "test_size": 1}
PIXELS = np.stack([picture(seed, 16, 16, 1)[..., 0] for seed in range(6)])


@cache
def undisturbed():
    return train(recipe().images, recipe(), progress=False).state_dict()


def assert_undisturbed(net):
    assert net.state_dict().keys() == undisturbed().keys()
    assert all(torch.equal(value, undisturbed()[key]) for key, value in net.state_dict().items())


# --- What a row expects -----------------------------------------------------------------------------------------------


def refused(kind, sentence):
    """An error of this kind whose sentence is this one."""

    def check(provoke, folder):
        with pytest.raises(kind, match=sentence):
            provoke(folder)

    return check


def goes_on(outcome, warning=None):
    """What the fault leads to; with a warning, or without any."""

    def check(provoke, folder):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert provoke(folder) == outcome
        assert len(said) == (warning is not None), [str(one.message) for one in said]
        assert warning is None or re.search(warning, str(said[0].message)), str(said[0].message)

    return check


def told(status, sentence):
    """The exit status of a command, and one sentence on stderr that begins with the program's name."""

    def check(provoke, folder):
        result = CliRunner(env={"GAHB_STORE": str(folder)}).invoke(main, provoke(folder))
        assert result.exit_code == status, result.output
        assert re.search(sentence, result.stderr), result.stderr
        assert status != 1 or result.stderr.startswith("gahb: ")
        assert "Traceback" not in result.output

    return check


def elsewhere(node):
    """A heavy fault: another test provokes it, and must be there."""

    def check(provoke, folder):
        module, _, name = node.partition("::")
        assert callable(getattr(importlib.import_module(module), name, None)), f"there is no test {node}"

    return check


# --- Image files ------------------------------------------------------------------------------------------------------


def beside_good_ones(make):
    """What a folder of six pictures says of an odd file that ``make(folder)`` adds: its reason, or ``read``."""

    def provoke(tmp_path):
        folder = fill(tmp_path / "my faces", GOOD, height=16, width=16)
        make(folder)
        manifest = faces(folder, **ASKED, cache=tmp_path / "cache").manifest
        assert manifest["read"] + len(manifest["unreadable"]) == manifest["found"] >= len(GOOD)  # the others go on
        return manifest["unreadable"] or f"{manifest['found'] - len(GOOD)} more read"

    return provoke


def content(name, data):
    return beside_good_ones(lambda folder: (folder / name).write_bytes(data))


def link_to(name):
    return beside_good_ones(lambda folder: (folder / "a.png").symlink_to(name))


def encoded(suffix="png"):
    file = io.BytesIO()
    Image.fromarray(picture(50)).save(file, format=suffix)
    return file.getvalue()


def altered_png():
    good = bytearray(encoded())
    good[len(good) // 2] ^= 255
    return bytes(good)


def bomb():
    """A PNG of a few bytes that says that it is 10^10 pixels."""
    header = b"IHDR" + (100_000).to_bytes(4, "big") * 2 + b"\x08\0\0\0\0"
    chunks = [(13, header), (1, b"IDAT\0")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        length.to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") for length, chunk in chunks
    )


def nested_and_linked(folder):
    """A folder below, links to a file, to a folder and back up, hidden files; names in other scripts, and no UTF-8."""
    fill(folder, ["ünï cödé/日本 1.png"], height=16, width=16)
    Image.fromarray(picture(60, 16, 16)).save(folder / "\udcff.png", format="png")
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    Image.fromarray(picture(61, 16, 16)).save(elsewhere / "l.png")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "loop").symlink_to(folder)
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "folder.png").mkdir()


def form(kind):
    def provoke(tmp_path):
        suffix, expected, tolerance = FORMS[kind]
        fill(tmp_path, ["b.png", "c.png"])
        save(kind, tmp_path / f"a{suffix}")
        data = faces(tmp_path, size=40, N=1, test_size=1)
        return bool(np.abs(data.S1[0, 0].numpy() - expected).max() < tolerance / 255)

    return provoke


def no_permission(tmp_path):
    inner = Image.open

    def refuse(file):
        if "x.png" in str(file):
            raise PermissionError(errno.EACCES, "Permission denied")
        return inner(file)

    with patch.object(Image, "open", refuse):
        return beside_good_ones(lambda folder: None)(tmp_path)


def too_few(tmp_path):
    fill(tmp_path, GOOD[:3])
    (tmp_path / "page.jpg").write_text(PAGE)
    Image.fromarray(picture(0)).save(tmp_path / "again.png")
    faces(tmp_path, size=12, N=3, test_size=1)


def changed_folder(tmp_path):
    folder, kept = fill(tmp_path / "f", GOOD, height=16, width=16), tmp_path / "cache"
    before = faces(folder, **ASKED, cache=kept)
    Image.fromarray(picture(20, 16, 16)).save(folder / "0.png")
    after = faces(folder, **ASKED, cache=kept)
    assert after.manifest == faces(folder, **ASKED).manifest != before.manifest
    return after.manifest["parts"]["S1"]


@contextmanager
def locked(*folders):
    """As root may enter any folder, the system's refusal is played."""
    inner = os.scandir

    def refuse(folder):
        if Path(folder) in folders:
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return inner(folder)

    with patch.object(os, "scandir", refuse):
        yield


def locked_folder(inside=("a", "b/c"), good=GOOD):
    """Folders with an image each that may not be entered, among others; all that is read of the others."""

    def provoke(tmp_path):
        folder = fill(tmp_path / "f", [*good, *(f"{name}/1.png" for name in inside)], height=16, width=16)
        with locked(*(folder / name for name in inside)):
            manifest = faces(folder, **ASKED).manifest
        return manifest["found"], manifest["closed"]

    return provoke


SHUT = r"Folders that may not be entered: a \(Permission denied\), b/c \(Permission denied\)\."
TOO_FEW = r"has 3 usable .*5 found, 1 unreadable, 1 near.* = 7 are needed\. Give a larger .*page\.jpg"
IMAGES = [
    *((f"image: {kind}", form(kind), goes_on(True)) for kind in FORMS),
    ("image: nested folders, links, loops, odd names", beside_good_ones(nested_and_linked), goes_on("3 more read")),
    ("image: zero bytes", content("a.png", b""), goes_on(["a.png (empty)"])),
    ("image: truncated jpeg", content("a.jpg", encoded("jpeg")[:600]), goes_on(["a.jpg (truncated)"])),
    ("image: truncated png", content("a.png", encoded()[:900]), goes_on(["a.png (truncated)"])),
    ("image: altered png", content("a.png", altered_png()), goes_on(["a.png (damaged)"])),
    ("image: HTML", content("a.jpg", PAGE.encode()), goes_on(["a.jpg (a web page)"])),
    ("image: text", content("a.gif", b"no image"), goes_on(["a.gif (not an image)"])),
    ("image: pickle", content("a.tif", pickle.dumps({"a": 1})), goes_on(["a.tif (not an image)"])),
    ("image: too many pixels", content("a.png", bomb()), goes_on(["a.png (DecompressionBombError)"])),
    ("image: link to nothing", link_to("nothing"), goes_on(["a.png (No such file or directory)"])),
    ("image: link to itself", link_to("a.png"), goes_on(["a.png (Too many levels of symbolic links)"])),
    ("image: no permission", no_permission, goes_on(["x.png (Permission denied)"])),
    (
        "photographs: folders that may not be entered",
        locked_folder(),
        goes_on((6, ["a (Permission denied)", "b/c (Permission denied)"]), f"faces: folder f is not .* whole. {SHUT}"),
    ),
    (
        "photographs: too few, as folders may not be entered",
        locked_folder(good=()),
        refused(ValueError, rf"faces: folder f has 0 usable .* {SHUT}"),
    ),
    (
        "photographs: the folder may not be entered",
        locked_folder(inside=("",)),
        refused(PermissionError, r"^faces: .*f may not be read \(Permission denied\); change its permissions or give"),
    ),
    ("photographs: too few", too_few, refused(ValueError, TOO_FEW)),
    ("photographs: a changed folder", changed_folder, goes_on(["0.png", "1.png"])),
]


# --- Arrays and archives ----------------------------------------------------------------------------------------------


def source(name, write):
    """Give the file that ``write(path)`` makes as faces; the first pixels that come back."""

    def provoke(tmp_path):
        path = tmp_path / "given" / name
        path.parent.mkdir()
        write(path)
        return faces(path, size=16, N=2, test_size=1).pixels[0, 0].tolist() == PIXELS[0].tolist()

    return provoke


def page(path):
    path.write_text(PAGE)


def escaping_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../ran", "x")


def escaping_tar(path):
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../../ran"), io.BytesIO())


def escaping_npz(path):
    """An .npz is a zip too; its arrays are read without unpacking it."""
    array = io.BytesIO()
    np.save(array, PIXELS)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../ran.npy", array.getvalue())


def objects(path):
    array = np.empty(1, dtype=object)
    array[0] = Malicious(path.parents[1] / "ran")
    if path.suffix == ".npy":
        np.save(path, array, allow_pickle=True)
    else:
        np.savez(path, images=array)


def malicious_pickle(path):
    path.write_bytes(pickle.dumps(Malicious(path.parents[1] / "ran")))


def malicious_torch(path):
    torch.save({"images": Malicious(path.parents[1] / "ran")}, path)


def released(write):
    def provoke(tmp_path):
        path = tmp_path / "given" / "net.pt"
        path.parent.mkdir()
        write(path)
        load_released(path)

    return provoke


def into_the_store(write):
    """Weights that someone replaced."""

    def provoke(tmp_path):
        root = tmp_path / "store"
        get(root)
        write(folder_of(root) / "weights.safetensors")
        assert_undisturbed(get(root))
        return "made again"

    return provoke


def savez(**arrays):
    return lambda path: np.savez(path, **arrays)


def tensors(path):
    torch.save(torch.from_numpy(PIXELS), path)


def truncated(write):
    return lambda path: (write(path), os.truncate(path, 700))


def one_image(path):
    save("gray", path)


WEB = r"is a web page and holds no images: .*; open its address in a browser"
BAD = r"could not be read as an array .*It is damaged"
NO_CODE = r"could not be read as an array .*needs code to be run, which is refused; save plain numbers"
GIVEN = [  # name of the file, what writes it, the sentence that it gets after its name
    *((name, page, WEB) for name in ("a.jpg", "a.npz", "a.npy", "a.pt", "a.zip", "a.tar.gz")),
    ("zero.npy", lambda path: path.touch(), BAD),
    ("zero.npz", lambda path: path.touch(), BAD),
    ("zero.pt", lambda path: path.touch(), BAD),
    ("cut.npy", truncated(lambda path: np.save(path, PIXELS)), BAD),
    ("cut.npz", truncated(savez(images=PIXELS)), BAD),
    ("cut.pt", truncated(tensors), BAD),
    ("levels.npz", savez(images=PIXELS.astype(float)), r"holds float64 from 0.* floats in \[0, 1\] are expected"),
    ("nan.npz", savez(images=PIXELS * np.nan), r"holds float64 from nan to nan; .* are expected"),
    ("no_image.npz", savez(images=PIXELS[:0]), r"has shape \(0, 16, 16\): it holds no images"),
    ("one.npz", savez(images=PIXELS[0]), r"has shape \(16, 16\); images \(n, H, W\), .* are expected"),
    ("which.npz", savez(a=PIXELS, b=PIXELS), r"holds \['a', 'b'\]; name the array of images 'images'"),
    ("one.png", one_image, r"is one image; give the folder it is in"),
    ("leaves.zip", escaping_zip, r"is neither a folder .*; unpack an archive first"),
    ("leaves.tar.gz", escaping_tar, r"is neither a folder .*; unpack an archive first"),
    ("object.npy", objects, NO_CODE),
    ("object.npz", objects, NO_CODE),
    ("object.pt", malicious_torch, NO_CODE),
    *((f"pickle.{suffix}", malicious_pickle, NO_CODE) for suffix in ("npy", "npz", "pt")),
]
ASIDE = r"weights\.safetensors in tiny-\w+ is damaged .*set aside as weights\.safetensors\.damaged"
NO_NET = r"net\.pt was refused: reading it would run code .*Ask for a plain state dict"
ARRAYS = [
    *((f"given: {file}", source(file, write), refused(ValueError, f"{file} {why}")) for file, write, why in GIVEN),
    ("given: npz that would leave its folder", source("a.npz", escaping_npz), goes_on(True)),
    ("given: npz of plain numbers", source("a.npz", savez(images=PIXELS)), goes_on(True)),
    ("malicious: released .pt", released(malicious_torch), refused(ValueError, NO_NET)),
    ("malicious: released pickle", released(malicious_pickle), refused(ValueError, "net.pt was refused: .*Ask for")),
    ("malicious: weights in the store", into_the_store(malicious_torch), goes_on("made again", ASIDE)),
    ("malicious: pickle in the store", into_the_store(malicious_pickle), goes_on("made again", ASIDE)),
]


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
        look.note(folder, lambda record: record.update(scale={"name": "smoke"}))
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


KINDS = {"empty": "zero bytes", "truncated": "truncated", "altered": "altered", "pickle": "a pickle"}
NOTICED = r"^{0}\.safetensors in [\w-]+ is damaged \(.+\); set aside as {0}\.safetensors\.damaged"
UNREADABLE = r"recipe\.json in [\w-]+ cannot be read"
BROKEN = {"zero bytes": "", "truncated": '{"made": {"gahb', "a dict": "{}", "a list": "[]", "keys": '{"made": {}}'}
RECORDS = {
    "claims.json": {"a dict": "{}", "numbers": "[1]", "no names": '[{"id": "5.2", "measured": 0.95}]'},
    "provenance.json": {"a list": "[]", "a word": '{"scale": "smoke"}'},
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
    ("weights: of other images", other_images, refused(ValueError, "was trained on other images .* checksum")),
    ("checkpoint: of another recipe", foreign_checkpoint, goes_on("made again", "of another recipe; tiny starts anew")),
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
NO_STORE = "the store .*here.* cannot be written to: .*; give another with store="
NO_CACHE = "prepared photographs cannot be kept in .*cache.*; give another folder"
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


# --- Trainings that are stopped ---------------------------------------------------------------------------------------


def diverging(tmp_path):
    get(tmp_path, recipe("faces-S1-N10", learning_rate=1e30))


def nan_later(tmp_path):
    """A weight turns NaN at step 7: the checkpoint of step 6 is kept."""
    inner, calls = torch.optim.Adam.step, [0]

    def step(self):
        inner(self)
        calls[0] += 1
        if calls[0] == 7:
            self.param_groups[0]["params"][0].data[0] = torch.nan

    step.hooked = True  # torch.optim would wrap it again
    try:
        with patch.object(torch.optim.Adam, "step", step), patch.object(training, "CHECKPOINT_SECONDS", -1):
            get(tmp_path)
    finally:
        held = safetensors.torch.load_file(folder_of(tmp_path) / "checkpoint.safetensors")
        assert all(bool(value.isfinite().all()) for value in held.values())
        assert float(held["optimizer.0.step"]) == 6


def interrupted(number):
    """A signal in the middle of a step, under the command line's own handlers."""

    def provoke(tmp_path):
        inner, calls = training.draw_sigmas, [0]

        def draw(*args):
            calls[0] += 1
            if calls[0] == 5:
                signal.raise_signal(number)
            return inner(*args)

        with patch.object(training, "draw_sigmas", draw), pytest.raises(KeyboardInterrupt), training.interruptible():
            get(tmp_path)
        assert (folder_of(tmp_path) / "checkpoint.safetensors").is_file() and not list(tmp_path.rglob("*.tmp"))
        assert_undisturbed(get(tmp_path))
        return "goes on from the checkpoint"

    return provoke


def time_limit(tmp_path):
    get(tmp_path, recipe(images_seen=10**7), time_limit=0.01)


GONE_ON = goes_on("goes on from the checkpoint")
NAN_LOSS = r"faces-S1-N10 failed after .* checkpoint is kept\. Lower learning_rate \(1e\+30\) or raise batch_size"
NAN_WEIGHT = r"tiny failed after 56 images: .* is not finite\. .* is kept\. Lower"
STOPPED = "tiny stopped at its time limit .*; the same command goes on from there"
TRAININGS = [
    ("NaN loss", diverging, refused(TrainingFailed, NAN_LOSS)),
    ("NaN weight", nan_later, refused(TrainingFailed, NAN_WEIGHT)),
    ("time limit", time_limit, refused(TrainingStopped, STOPPED)),
    ("Ctrl-C", interrupted(signal.SIGINT), GONE_ON),
    ("SIGTERM", interrupted(signal.SIGTERM), GONE_ON),
]


# --- Notebooks and the command line -----------------------------------------------------------------------------------


def one_of_two_notebooks_dies(tmp_path):
    """The command goes on to the other, and its status is 1."""
    ran = []

    def run(path, output, *rest):
        ran.append(path.stem)
        nbformat.write(nbformat.v4.new_notebook(), output)
        return "DeadKernelError: Kernel died" if path.stem.startswith("01") else None

    with patch.object(runner, "run_notebook", run):
        folders = ["--runs", tmp_path / "runs", "--figures", tmp_path / "f", "--store", tmp_path / "s"]
        arguments = ["reproduce", "--only", "01", "--only", "06", "--jobs", 1, *folders]
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert "06_shuffled_faces done" in result.output and len(ran) == 2
    return result.exit_code, result.stderr.strip()


def typed(arguments):
    return lambda tmp_path: arguments.split()


TYPED = [  # what a user types, the exit status, the sentence
    ("train --sclae smoke", 2, "No such option '?--sclae"),
    ("trian", 2, "No such command 'trian'"),
    ("train --scale smokee", 1, "unknown scale 'smokee': take one of .*; did you mean smoke"),
    ("reproduce --device abacus", 1, "device 'abacus' is not available here; take auto or one of .*cpu"),
    ("train --device cuda:99 --only disks", 1, "device 'cuda:99' is not available here; take auto or one of .*cpu"),
    ("reproduce --only 99", 1, "--only 99 names no notebook; they are 01_"),
    ("train --only cats", 1, "--only cats names no denoiser of smoke; they are faces-S1-N1"),
    ("train --faces no/such", 1, "faces: there is no folder or file no/such; give a folder of images or an array"),
    ("train --scenes no/such", 1, "scenes: there is no folder or file no/such; give a folder of images or an array"),
    ("data no/such", 1, "data: there is no folder or file no/such; give a folder of images or an array"),
    ("train --jobs 0", 1, "jobs must be at least 1, got 0"),
    ("claims --figures no/such", 1, "there is no ledger in .*; run gahb reproduce --scale smoke first"),
    ("list --store no/such", 1, "--store: there is no folder no/such; give one that gahb train wrote to"),
]
DIED = (1, "gahb: 1 failed: 01_memorization_transition")
NAMES = "the name of a recipe must be letters"
COMMANDS = [
    *((f"typed: {text}", typed(text), told(status, sentence)) for text, status, sentence in TYPED),
    ("one of two notebooks dies", one_of_two_notebooks_dies, goes_on(DIED)),
    ("no released network", lambda folder: load_released(folder / "x.pt"), refused(FileNotFoundError, "give the path")),
    ("a name that would leave the store", lambda folder: get(folder, recipe("../../ran")), refused(ValueError, NAMES)),
]


# --- Heavy faults, which other tests provoke --------------------------------------------------------------------------

RIVALS = "test_store::test_one_of_two_rivals_trains_and_a_dead_holder_does_not_block"
HEAVY = {
    "kill -9 at any moment": "test_store::test_kill_at_any_moment",
    "Ctrl-C at any line": "test_training::test_ctrl_c_anywhere_leaves_a_whole_checkpoint",
    "Ctrl-C and SIGTERM from outside": "test_store::test_signals_from_outside",
    "a rival process": RIVALS,
    "a dead holder of the lock": RIVALS,
    "two processes prepare photographs": "test_cache::test_two_processes_at_once_read_each_image_once",
    "any byte altered": "test_files::test_every_altered_byte_and_every_length_is_noticed",
    "disk full at each stage of a write": "test_files::test_failure_at_each_stage",
    "disk full at the weights": "test_store::test_disk_full_at_the_end",
    "no permission to read weights": "test_files::test_no_permission_is_not_damage",
    "damaged weights in a read-only store": "test_files::test_damaged_file_in_a_read_only_folder",
    "a kernel that dies, hangs or fails": "test_notebook::test_a_cell_that_fails_dies_or_hangs_is_one_sentence",
    "a failing notebook among others": "test_notebooks::test_a_failing_notebook_is_named_and_the_others_go_on",
    "an unknown parameter of a notebook": "test_notebook::test_unknown_parameter_is_refused",
    "a bad parameter of a notebook": "test_notebook::test_bad_parameters_fail_with_one_sentence",
    "CelebA with its zip, masks, hidden files": "test_layouts::test_celeba_as_kaggle_and_torchvision_lay_it_out",
    "a damaged LMDB export": "test_layouts::test_damaged_and_several_exports_are_refused",
    "no network": "test_photographs::test_without_a_network_the_error_says_what_to_give",
    "planted code that would run": "test_sources::test_the_malicious_object_would_run",
}
OTHERS = [(fault, None, elsewhere(node)) for fault, node in HEAVY.items()]
FAULTS = [*IMAGES, *ARRAYS, *STORE, *DISKS, *TRAININGS, *COMMANDS, *OTHERS]


@pytest.mark.parametrize(("provoke", "expect"), [pytest.param(*row[1:], id=row[0]) for row in FAULTS])
def test_each_fault_has_its_outcome(provoke, expect, tmp_path):
    (tmp_path / "here").mkdir()
    expect(provoke, tmp_path / "here")
    assert [file.name for file in tmp_path.iterdir()] == ["here"]  # nothing left its folder
    assert not list(tmp_path.rglob("ran*"))  # and no planted code ran


def test_the_table_can_fail(tmp_path):
    quiet, warned = lambda folder: 1, lambda folder: warnings.warn("odd", stacklevel=1)
    for provoke, expect in (
        (quiet, refused(ValueError, "odd")),
        (quiet, goes_on(2)),
        (quiet, goes_on(1, "odd")),
        (warned, goes_on(None)),
        (warned, goes_on(None, "even")),
        (typed("--help"), told(1, "odd")),
        (None, elsewhere("test_store::test_absent")),
    ):
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            expect(provoke, tmp_path)
    names = [name for name, *_ in FAULTS]
    assert len(set(names)) == len(names)
