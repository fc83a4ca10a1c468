"""Rows of the table of faults: arrays, archives, and prepared photographs."""

import io
import os
import pickle
import tarfile
import zipfile

import numpy as np
import torch
from faults_photographs import ASKED, GOOD, PIXELS, POINTER
from helpers import DAMAGE, PAGE, fill, full_disk, leads_to, refused
from PIL import Image

from gahb.datasets import faces
from gahb.released import load_released

# --- Arrays and archives ----------------------------------------------------------------------------------------------


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def given(name, write, use=lambda path: faces(path, size=16, N=2, test_size=1).pixels[0, 0].tolist()):
    """Use the file that ``write(path)`` makes, by default as faces, of which the first is returned."""

    def provoke(tmp_path):
        path = tmp_path / "given" / name
        path.parent.mkdir()
        write(path)
        return use(path)

    return provoke


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


def malicious_array(path):
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


def transparent(path):
    np.save(path, np.stack([PIXELS] * 4, axis=-1))


def savez(**arrays):
    return lambda path: np.savez(path, **arrays)


def truncated(write):
    return lambda path: (write(path), os.truncate(path, 700))


def tensors(value):
    return lambda path: torch.save(value, path)


FLOATS = torch.from_numpy(PIXELS) / 255
BEYOND = FLOATS.clone()
BEYOND[0, 0, 0] = 1.0000001
TOO_FAR = FLOATS.clone()
TOO_FAR[0, 0, 0] = 1.0011
ROUNDED = (FLOATS[0].bfloat16().float() * 255).round().int().tolist()
AS_SAVED = {  # what people save, and the first image
    "bfloat16": (tensors(FLOATS.bfloat16()), ROUNDED),
    "(images, labels)": (tensors((FLOATS, torch.arange(6))), PIXELS[0].tolist()),
    "images and labels by other names": (tensors({"x": FLOATS, "y": torch.arange(6)}), PIXELS[0].tolist()),
    "a checkpoint of data": (tensors({"data": {"train": FLOATS}, "epoch": 3}), PIXELS[0].tolist()),
    "a parameter": (tensors(torch.nn.Parameter(FLOATS)), PIXELS[0].tolist()),
}
WEB = r"is a web page and holds no images: .*; open its address in a browser"
LFS = r"is a Git LFS pointer and holds no images: run 'git lfs pull' in its clone"
SHAPE = r"shape \(6, 16, 16\)"
BAD = r"could not be read as an array .*It is damaged"
NO_CODE = r"could not be read as an array .*needs code to be run, which is refused; save plain numbers"
FILES = [  # name, what writes it, the message after the name
    *((name, lambda path: path.write_text(PAGE), WEB) for name in ("a.jpg", "a.npz", "a.npy", "a.pt", "a.zip")),
    *((f"empty.{suffix}", lambda path: path.touch(), BAD) for suffix in ("npy", "npz", "pt")),
    ("cut.npy", truncated(lambda path: np.save(path, PIXELS)), BAD),
    ("cut.npz", truncated(savez(images=PIXELS)), BAD),
    ("cut.pt", truncated(lambda path: torch.save(torch.from_numpy(PIXELS), path)), BAD),
    *((f"pointer.{suffix}", lambda path: path.write_bytes(POINTER), LFS) for suffix in ("npz", "npy", "pt")),
    (
        "gone.pt",
        lambda path: path.write_text("404: Not Found"),
        "is text that begins with '404: Not Found' and holds no",
    ),
    ("which.npz", savez(a=PIXELS, b=PIXELS), rf"holds a of {SHAPE}, b of {SHAPE}; name the array of images 'images'"),
    ("keys.pt", tensors({1: torch.ones(2), "b": torch.ones(2)}), r"holds 1 of shape \(2,\), b of shape \(2,\); name"),
    ("list.pt", tensors(list(FLOATS)), r"holds 0 of shape \(16, 16\), .* and 3 more; .*, and make one array of a list"),
    ("none.pt", tensors({"epoch": 3}), "holds no array; name"),
    ("far.pt", tensors(TOO_FAR), r"holds float32 from 0(\.\d+)? to 1\.0011; uint8, uint16 or floats in \[0, 1\]"),
    ("one.png", lambda path: Image.fromarray(PIXELS[0]).save(path), r"is one image; give the folder it is in"),
    ("pipe.npy", os.mkfifo, r"is neither a folder nor a file; give a folder of images or an array"),
    ("escapes.zip", escaping_zip, r"is neither a folder .*; unpack an archive first"),
    ("escapes.tar.gz", escaping_tar, r"is neither a folder .*; unpack an archive first"),
    ("object.npy", malicious_array, NO_CODE),
    ("object.npz", malicious_array, NO_CODE),
    ("object.pt", malicious_torch, NO_CODE),
    *((f"pickle.{suffix}", malicious_pickle, NO_CODE) for suffix in ("npy", "npz", "pt")),
]
ARRAYS = [
    *((f"given: {name}", given(name, write), refused(ValueError, f"{name} {why}")) for name, write, why in FILES),
    *((f"given: {what}", given("a.pt", write), leads_to(first)) for what, (write, first) in AS_SAVED.items()),
    (
        "given: floats beyond 1 by rounding",
        given("a.pt", tensors(BEYOND)),
        leads_to([[255, *PIXELS[0, 0, 1:]], *PIXELS[0, 1:].tolist()]),
    ),
    (
        "given: transparent noise",
        given("a.npy", transparent, lambda path: faces(path, **ASKED).manifest["notes"]),
        leads_to(["a.npy (transparent parts are shown on white)"]),
    ),
    *(
        (
            f"given: a network that is {what}",
            given("net.pt", write, load_released),
            refused(ValueError, f"net.pt was refused: it is {what}"),
        )
        for what, write in (
            ("a Git LFS pointer", lambda path: path.write_bytes(POINTER)),
            ("a web page", lambda path: path.write_text(PAGE)),
            ("text that begins with '404: Not Found'", lambda path: path.write_text("404: Not Found")),
        )
    ),
    ("given: npz that would leave its folder", given("a.npz", escaping_npz), leads_to(PIXELS[0].tolist())),
    (
        "given: malicious network",
        given("net.pt", malicious_torch, load_released),
        refused(ValueError, r"net\.pt was refused: reading it would run code .*Ask for a plain state dict"),
    ),
    (
        "given: malicious pickle of a network",
        given("net.pt", malicious_pickle, load_released),
        refused(ValueError, r"net\.pt was refused: .*Ask for"),
    ),
]


# --- Prepared photographs ---------------------------------------------------------------------------------------------


def damaged_cache(kind):
    def provoke(tmp_path):
        folder = fill(tmp_path / "f", GOOD, height=16, width=16)
        before = faces(folder, **ASKED, cache=tmp_path / "cache")
        (file,) = (tmp_path / "cache").glob("*/pixels.safetensors")
        good = file.read_bytes()
        file.write_bytes(DAMAGE[kind](good))
        after = faces(folder, **ASKED, cache=tmp_path / "cache")
        assert file.with_name("pixels.safetensors.damaged").read_bytes() == DAMAGE[kind](good)
        return torch.equal(before.pixels, after.pixels) and file.read_bytes() == good

    return provoke


def full_cache(tmp_path):
    fill(tmp_path / "f", GOOD, height=16, width=16)
    try:
        with full_disk(1000):
            faces(tmp_path / "f", **ASKED, cache=tmp_path / "cache")
    finally:
        assert not list((tmp_path / "cache").rglob("*.*safetensors*"))


def file_for_cache(tmp_path):
    (tmp_path / "cache").write_text("mine")
    np.save(tmp_path / "a.npy", PIXELS)
    try:
        faces(tmp_path / "a.npy", **ASKED, cache=tmp_path / "cache")
    finally:
        assert (tmp_path / "cache").read_text() == "mine"


ASIDE = r"^pixels\.safetensors in faces-12-\w+ is damaged \(.+\); set aside as pixels\.safetensors\.damaged"
CACHE = [
    *((f"cache: {kind}", damaged_cache(kind), leads_to(True, ASIDE)) for kind in DAMAGE),
    ("cache: a file in its place", file_for_cache, refused(OSError, "cache.* cannot be written to .*; give another")),
    ("cache: disk full", full_cache, refused(OSError, "pixels.safetensors could not be written in .*Free some space")),
]
ARRAYS_AND_CACHE = [*ARRAYS, *CACHE]
