"""Rows of the table of faults: image files, arrays and archives."""

import errno
import io
import os
import pickle
import tarfile
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from faults_expected import ASKED, GOOD, PIXELS, assert_undisturbed, goes_on, refused
from PIL import Image
from test_photographs import picture
from test_sources import FORMS, PAGE, Malicious, fill, save
from test_store import folder_of, get

from gahb.datasets import faces
from gahb.released import load_released

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


def pipe(folder):
    """Who reads it waits for ever."""
    os.mkfifo(folder / "a.png")


def floats_beyond_one(tmp_path):
    levels = Image.fromarray(picture(0, 16, 16, 1)[..., 0].astype(np.float32))
    return beside_good_ones(lambda folder: levels.save(folder / "a.tif"))(tmp_path)


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
    ("image: too many pixels", content("a.png", bomb()), goes_on(["a.png (too large)"])),
    ("image: floats beyond [0, 1]", floats_beyond_one, goes_on(["a.tif (intensities not in [0, 1])"])),
    ("image: a pipe", beside_good_ones(pipe), goes_on(["a.png (not a regular file)"])),
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
    ("pipe.npy", os.mkfifo, r"is neither a folder nor a file; give a folder of images or an array"),
    ("keys.pt", lambda path: torch.save({1: torch.ones(2), "b": torch.ones(2)}, path), r"holds \['1', 'b'\]; name"),
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
