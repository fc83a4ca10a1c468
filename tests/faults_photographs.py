"""Rows of the table of faults: image files, folders, arrays, archives, and prepared photographs."""

import errno
import io
import os
import pickle
import zipfile
import zlib
from unittest.mock import patch

import numpy as np
import torch
from helpers import DAMAGE, PAGE, fill, full_disk, gray_pictures, leads_to, locked, picture, refused
from PIL import Image

from gahb.datasets import faces

GOOD = ["1.png", "2.png", "3.png", "m.png", "x.png", "y.png"]
ASKED = {"size": 12, "N": 2, "test_size": 1}
PIXELS = gray_pictures(6)


# --- Image files ------------------------------------------------------------------------------------------------------


def among_good_ones(make):
    """What a folder of six pictures reports of an odd file that ``make(folder)`` adds; the others are read."""

    def provoke(tmp_path):
        folder = fill(tmp_path / "my faces", GOOD, height=16, width=16)
        make(folder)
        manifest = faces(folder, **ASKED, cache=tmp_path / "cache").manifest
        assert manifest["read"] + len(manifest["unreadable"]) == manifest["found"] >= len(GOOD)
        return manifest["unreadable"]

    return provoke


def content(name, data):
    return among_good_ones(lambda folder: (folder / name).write_bytes(data))


def link_to(name):
    return among_good_ones(lambda folder: (folder / "a.png").symlink_to(name))


def encoded(suffix="png"):
    file = io.BytesIO()
    Image.fromarray(picture(50)).save(file, format=suffix)
    return file.getvalue()


def altered_png():
    good = bytearray(encoded())
    good[len(good) // 2] ^= 255
    return bytes(good)


def bomb():
    """A PNG of a few bytes whose header claims 10^10 pixels."""
    header = b"IHDR" + (100_000).to_bytes(4, "big") * 2 + b"\x08\0\0\0\0"
    chunks = [(13, header), (1, b"IDAT\0")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        length.to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") for length, chunk in chunks
    )


def floats_beyond_one(folder):
    Image.fromarray(PIXELS[0].astype(np.float32)).save(folder / "a.tif")


def no_permission(tmp_path):
    open_image = Image.open

    def refuse(file):
        if "x.png" in str(file):
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_image(file)

    with patch.object(Image, "open", refuse):
        return among_good_ones(lambda folder: None)(tmp_path)


def too_few(tmp_path):
    fill(tmp_path, GOOD[:3])
    (tmp_path / "page.jpg").write_text(PAGE)
    Image.fromarray(picture(0)).save(tmp_path / "again.png")
    faces(tmp_path, size=12, N=3, test_size=1)


def locked_folders(inside=("a", "b/c"), good=GOOD):
    """Folders of an image each that cannot be listed, among good images."""

    def provoke(tmp_path):
        folder = fill(tmp_path / "f", [*good, *(f"{name}/1.png" for name in inside)], height=16, width=16)
        with locked(*(folder / name for name in inside)):
            manifest = faces(folder, **ASKED).manifest
        return manifest["found"], manifest["unreadable_folders"]

    return provoke


LOCKED = ["a (Permission denied)", "b/c (Permission denied)"]
UNREADABLE = r"Unreadable folders: a \(Permission denied\), b/c \(Permission denied\)\."
TOO_FEW = r"has 3 usable .*5 found, 1 unreadable, 1 near.* = 7 are needed\. Give a larger .*page\.jpg \(a web page\)"
IMAGES = [
    ("image: zero bytes", content("a.png", b""), leads_to(["a.png (empty)"])),
    ("image: truncated jpeg", content("a.jpg", encoded("jpeg")[:600]), leads_to(["a.jpg (truncated)"])),
    ("image: truncated png", content("a.png", encoded()[:900]), leads_to(["a.png (truncated)"])),
    ("image: altered png", content("a.png", altered_png()), leads_to(["a.png (damaged)"])),
    ("image: HTML", content("a.jpg", PAGE.encode()), leads_to(["a.jpg (a web page)"])),
    ("image: text", content("a.gif", b"no image"), leads_to(["a.gif (not an image)"])),
    ("image: pickle", content("a.tif", pickle.dumps({"a": 1})), leads_to(["a.tif (not an image)"])),
    ("image: too many pixels", content("a.png", bomb()), leads_to(["a.png (too large)"])),
    ("image: floats", among_good_ones(floats_beyond_one), leads_to(["a.tif (intensities not in [0, 1])"])),
    (
        "image: a pipe, which would be read forever",
        among_good_ones(lambda folder: os.mkfifo(folder / "a.png")),
        leads_to(["a.png (not a regular file)"]),
    ),
    ("image: link to nothing", link_to("nothing"), leads_to(["a.png (No such file or directory)"])),
    ("image: link to itself", link_to("a.png"), leads_to(["a.png (Too many levels of symbolic links)"])),
    ("image: no permission", no_permission, leads_to(["x.png (Permission denied)"])),
    (
        "folder: unreadable folders inside",
        locked_folders(),
        leads_to((6, LOCKED), f"faces: parts of folder f were not read. {UNREADABLE}"),
    ),
    (
        "folder: too few images, as folders are unreadable",
        locked_folders(good=()),
        refused(ValueError, rf"faces: folder f has 0 usable .* {UNREADABLE}"),
    ),
    (
        "folder: itself unreadable",
        locked_folders(inside=("",)),
        refused(PermissionError, r"^faces: .*f cannot be read \(Permission denied\); change its permissions or give"),
    ),
    ("folder: too few images", too_few, refused(ValueError, TOO_FEW)),
]


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


def savez(**arrays):
    return lambda path: np.savez(path, **arrays)


def truncated(write):
    return lambda path: (write(path), os.truncate(path, 700))


WEB = r"is a web page and holds no images: .*; open its address in a browser"
BAD = r"could not be read as an array .*It is damaged"
NO_CODE = r"could not be read as an array .*needs code to be run, which is refused; save plain numbers"
FILES = [  # name, what writes it, the message after the name
    *((name, lambda path: path.write_text(PAGE), WEB) for name in ("a.jpg", "a.npz", "a.npy", "a.pt", "a.zip")),
    *((f"empty.{suffix}", lambda path: path.touch(), BAD) for suffix in ("npy", "npz", "pt")),
    ("cut.npy", truncated(lambda path: np.save(path, PIXELS)), BAD),
    ("cut.npz", truncated(savez(images=PIXELS)), BAD),
    ("cut.pt", truncated(lambda path: torch.save(torch.from_numpy(PIXELS), path)), BAD),
    ("which.npz", savez(a=PIXELS, b=PIXELS), r"holds \['a', 'b'\]; name the array of images 'images'"),
    ("keys.pt", lambda path: torch.save({1: torch.ones(2), "b": torch.ones(2)}, path), r"holds \['1', 'b'\]; name"),
    ("one.png", lambda path: Image.fromarray(PIXELS[0]).save(path), r"is one image; give the folder it is in"),
    ("pipe.npy", os.mkfifo, r"is neither a folder nor a file; give a folder of images or an array"),
    ("escapes.zip", escaping_zip, r"is neither a folder .*; unpack an archive first"),
    ("object.npy", malicious_array, NO_CODE),
    ("object.npz", malicious_array, NO_CODE),
    ("object.pt", malicious_torch, NO_CODE),
    *((f"pickle.{suffix}", malicious_pickle, NO_CODE) for suffix in ("npy", "npz", "pt")),
]
ARRAYS = [
    *((f"given: {name}", given(name, write), refused(ValueError, f"{name} {why}")) for name, write, why in FILES),
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
PHOTOGRAPHS = [*IMAGES, *ARRAYS, *CACHE]
