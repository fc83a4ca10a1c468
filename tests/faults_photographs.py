"""Rows of the table of faults: image files and folders."""

import errno
import io
import os
import pickle
import re
import subprocess
import sys
import zlib
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
from helpers import PAGE, fill, gray_pictures, leads_to, locked, picture, refused
from PIL import Image

from gahb.datasets import faces
from gahb.datasets.survey import survey

GOOD = ["1.png", "2.png", "3.png", "m.png", "x.png", "y.png"]
ASKED = {"size": 12, "N": 2, "test_size": 1}
PIXELS = gray_pictures(6)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
PULL = "run 'git lfs pull' in its clone"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
SUFFIXES = ("jfif", "jpe", "webp", "avif", "jp2", "tga", "pnm", "dib", "qoi")


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


def permission_given_later(tmp_path):
    """Root can read anything, so the refusal is imitated; the mode is real."""
    folder, found = fill(tmp_path / "f", GOOD, height=16, width=16), []
    for mode in (0o000, 0o644):
        (folder / "x.png").chmod(mode)
        with failing("x.png", PermissionError(errno.EACCES, "Permission denied") if mode == 0 else None):
            found.append(faces(folder, **ASKED, cache=tmp_path / "cache").manifest["unreadable"])
    return found


@contextmanager
def failing(name, error):
    open_image = Image.open

    def fail(file):
        if error and name in str(file):
            raise error
        return open_image(file)

    with patch.object(Image, "open", fail):
        yield


def stops(run, words):
    """The sentence of an error that passes, without its advice."""
    try:
        run()
    except OSError as error:
        assert str(error).endswith("; try again") and words in str(error)
        return re.sub(r"^/\S*/", "", str(error).removesuffix("; try again"))


def fails_once(error):
    """The run stops; the next one has all images."""

    def provoke(tmp_path):
        folder, options = fill(tmp_path / "f", GOOD, height=16, width=16), {**ASKED, "cache": tmp_path / "cache"}
        with failing("x.png", error):
            said = stops(lambda: faces(folder, **options), "x.png")
        return said, faces(folder, **options).manifest["unreadable"]

    return provoke


def folder_fails_once(tmp_path):
    folder = fill(tmp_path / "f", [*GOOD, "a/1.png"], height=16, width=16)
    with locked(folder / "a", error=OSError(errno.EIO, "Input/output error", str(folder / "a"))):
        said = stops(lambda: faces(folder, **ASKED), "a")
    return said, faces(folder, **ASKED).manifest["found"]


def of_suffix(suffix):
    """One image of a format among others: whether it is read, and what is not."""

    def provoke(tmp_path):
        folder = fill(tmp_path, GOOD, height=16, width=16)
        Image.fromarray(picture(60)).save(folder / f"a.{suffix}", **({"format": "jpeg"} if suffix[:2] == "jf" else {}))
        manifest = faces(folder, **ASKED).manifest
        return manifest["found"] - len(GOOD), manifest["unreadable"]

    return provoke


def others(tmp_path):
    """What is said of other files, in the manifest and by ``gahb data``."""
    folder = fill(tmp_path, [*GOOD, "CelebAMask-HQ-mask-anno/1.png"], height=16, width=16)
    for name in ("1.HEIC", "2.heic", "b.cr2", "._1.png", "more.zip", "a.npz", "README"):
        (folder / name).write_bytes(b"?")
    not_read = faces(folder, **ASKED).manifest["not_read"]
    assert survey(folder).lines()[-len(not_read) - 2 : -1] == ["  not read:", *(f"    {line}" for line in not_read)]
    return not_read


def mostly_heic(tmp_path):
    fill(tmp_path, GOOD[:3])
    for i in range(9):
        (tmp_path / f"{i}.heic").write_bytes(HEIC)
    faces(tmp_path, size=12, N=3, test_size=1)


def hidden_noise(tmp_path):
    """The level of the transparent half, and what is said."""
    folder = fill(tmp_path, GOOD[:5], height=16, width=16)
    image = np.random.default_rng(0).integers(0, 256, (12, 12, 4), dtype=np.uint8)
    image[..., 3] = 255 * (np.arange(12) < 6)
    Image.fromarray(image).save(folder / "a.png")  # the fourth by name
    data = faces(folder, **ASKED)
    assert survey(folder).notes == data.manifest["notes"]
    return int(data.pixels[3, 0, :, 6:].min()), data.manifest["notes"]


def pages(tmp_path):
    folder = fill(tmp_path, GOOD, height=16, width=16)
    first, *rest = (Image.fromarray(picture(seed)) for seed in (50, 51, 52))
    first.save(folder / "a.tif", save_all=True, append_images=rest)
    return faces(folder, **ASKED).manifest["notes"]


def large(tmp_path):
    """Of 67 megapixels: memory stays below a byte a pixel, and the image is that of a small one."""
    file = tmp_path / "a.jpg"
    small = Image.fromarray(picture(0, channels=1)[..., 0])
    small.resize((8200, 8200), Image.BILINEAR).save(file)
    code = f"""
from pathlib import Path
from gahb.datasets._pixels import read_gray, to_pixels
status = Path("/proc/self/status")  # ru_maxrss would include that of the parent process
peak = lambda: int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024 if status.exists() else 0
to_pixels(read_gray(Path({str(tmp_path / "small.png")!r}))[0], 20)
before = peak()
gray, form, _ = read_gray(Path({str(file)!r}))
print(*to_pixels(gray, 20).flatten().tolist(), *form[:2], int(peak() - before))"""
    small.save(tmp_path / "small.png")
    expected = np.asarray(small.resize((20, 20), Image.BILINEAR)).flatten()
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    *pixels, height, width, megabytes = map(int, said)
    return np.abs(np.array(pixels) - expected).max() <= 3 and (height, width) == (8200, 8200) and megabytes < 80


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


NO_FORMAT = "no image format that is read; convert photographs to .jpg"
OTHERS = [
    f".cr2: 1 ({NO_FORMAT})", f".heic: 2 ({NO_FORMAT})", ".npz: 1 (give one of them alone)", ".zip: 1 (unpack them)",
    "CelebAMask-HQ-mask-anno: 1 (left out)", "hidden: 1 (left out)", f"without an ending: 1 ({NO_FORMAT})",
]  # fmt: skip
LOCKED = ["a (Permission denied)", "b/c (Permission denied)"]
UNREADABLE = r"Unreadable folders: a \(Permission denied\), b/c \(Permission denied\)\."
TOO_FEW = r"has 3 usable .*5 found, 1 unreadable, 1 near.* = 7 are needed\. Give a larger .*page\.jpg \(a web page\)"
IMAGES = [
    ("image: zero bytes", content("a.png", b""), leads_to(["a.png (empty)"])),
    ("image: truncated jpeg", content("a.jpg", encoded("jpeg")[:600]), leads_to(["a.jpg (truncated)"])),
    ("image: truncated png", content("a.png", encoded()[:900]), leads_to(["a.png (truncated)"])),
    ("image: altered png", content("a.png", altered_png()), leads_to(["a.png (damaged)"])),
    ("image: HTML", content("a.jpg", PAGE.encode()), leads_to(["a.jpg (a web page)"])),
    ("image: text", content("a.gif", b"no image"), leads_to(["a.gif (text that begins with 'no image')"])),
    ("image: Git LFS pointer", content("a.jpg", POINTER), leads_to([f"a.jpg (a Git LFS pointer: {PULL})"])),
    ("image: web page without a doctype", content("a.jpg", b"\n<head><title>"), leads_to(["a.jpg (a web page)"])),
    ("image: error of a bucket", content("a.png", b"<?xml version='1.0'?>\n<Error>"), leads_to(["a.png (a web page)"])),
    ("image: HEIC of a phone", content("a.jpg", HEIC), leads_to(["a.jpg (an HEIC photograph: convert it to JPEG)"])),
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
    ("image: no permission, until later", permission_given_later, leads_to([["x.png (Permission denied)"], []])),
    *(
        (f"image: {reason} once", fails_once(error), leads_to((f"x.png in folder f cannot be read now ({reason})", [])))
        for reason, error in (
            ("Input/output error", OSError(errno.EIO, "Input/output error")),
            ("Stale file handle", OSError(errno.ESTALE, "Stale file handle")),
            ("Too many open files", OSError(errno.EMFILE, "Too many open files")),
            ("out of memory", MemoryError()),
        )
    ),
    ("folder: fails once", folder_fails_once, leads_to(("a cannot be read now (Input/output error)", 7))),
    *((f"image: .{suffix}", of_suffix(suffix), leads_to((1, []))) for suffix in SUFFIXES),
    ("folder: files that are no images", others, leads_to(OTHERS)),
    (
        "folder: too few, as most are HEIC",
        mostly_heic,
        refused(ValueError, r"7 are needed.* Not read: \.heic: 9 \(no i"),
    ),
    (
        "image: noise under transparent parts",
        hidden_noise,
        leads_to((255, ["a.png (transparent parts are shown on white)"])),
    ),
    ("image: several in a file", pages, leads_to(["a.tif (the first of 3 images)"])),
    ("image: large", large, leads_to(True)),
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
