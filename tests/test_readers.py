"""Image files and arrays of every form that people have on their disks; damaged ones are in the table of faults."""

import itertools

import numpy as np
import pytest
import torch
from helpers import fill, gray, picture
from PIL import Image

from gahb.datasets import faces
from gahb.datasets._pixels import as_gray

# --- Files in a folder ------------------------------------------------------------------------------------------------

RGB, ALPHA = picture(100), picture(101, channels=1)
LEVELS = RGB[..., 0]
TWO_TONES = np.stack([np.arange(256), np.arange(256), np.zeros(256)], axis=1).astype(np.uint8)  # yellow palette


def on_white(levels, opacity):
    return levels * (opacity / 255) + 1 - opacity / 255


def save(kind, file):
    """Write the picture as one of FORMS."""
    if kind == "palette":
        image = Image.frombytes("P", LEVELS.shape[::-1], LEVELS.tobytes())
        image.putpalette(TWO_TONES.tobytes())
        image.save(file, transparency=bytes(range(256)))
    elif kind == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was turned: rotate by a quarter clockwise
        Image.fromarray(np.rot90(RGB)).save(file, exif=exif, quality=98, subsampling=0)
    else:
        arrays = {"gray": LEVELS, "color": RGB, "color jpeg": RGB, "opacity": np.dstack([RGB, ALPHA]),
                  "16 bits": LEVELS.astype(np.uint16) * 257, "float": (LEVELS / 255).astype(np.float32),
                  "gray and opacity": np.dstack([LEVELS[..., None], ALPHA]), "cmyk": RGB, "1 bit": LEVELS}  # fmt: skip
        image = Image.fromarray(arrays[kind])
        image = {
            "cmyk": lambda: image.convert("CMYK"),
            "1 bit": lambda: image.point(lambda v: 255 * (v > 127), "1"),
        }.get(kind, lambda: image)()
        image.save(file, **({"quality": 98, "subsampling": 0} if file.suffix == ".jpg" else {}))


FORMS = {  # suffix, gray picture expected, tolerance in gray levels of 255: half a level is rounding
    "gray": (".png", LEVELS / 255, 0.51),
    "color": (".png", gray(RGB), 0.51),
    "color jpeg": (".jpg", gray(RGB), 6),
    "opacity": (".png", on_white(gray(RGB), ALPHA[..., 0]), 0.51),
    "palette": (".png", on_white(LEVELS / 255 * 2 / 3, LEVELS), 0.51),
    "16 bits": (".png", LEVELS / 255, 0.51),
    "float": (".tif", LEVELS / 255, 0.51),
    "gray and opacity": (".png", on_white(LEVELS / 255, ALPHA[..., 0]), 0.51),
    "cmyk": (".jpg", gray(RGB), 8),
    "1 bit": (".png", (LEVELS > 127).astype(float), 0.51),
    "rotated": (".jpg", gray(RGB), 6),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_image_file_is_read(form, tmp_path):
    suffix, expected, tolerance = FORMS[form]
    fill(tmp_path, ["b.png", "c.png"])
    save(form, tmp_path / f"a{suffix}")
    data = faces(tmp_path, size=40, N=1, test_size=1)
    assert data.manifest["parts"]["S1"] == [f"a{suffix}"] and data.manifest["unreadable"] == []
    assert np.abs(data.S1[0, 0].numpy() - expected).max() < tolerance / 255


def test_nested_folders_odd_names_and_links_are_read_once(tmp_path):
    root = fill(tmp_path / "my faces", ["a.png", "B.PNG", "ünï cödé/日本 1.jpeg", "z/deep/er/c d.bmp"])
    elsewhere = fill(tmp_path / "elsewhere", ["x0.png", "x1.png", "x2.png", "x3.png", "x4.png", "x5.png"])
    for name in ("x0.png", "x1.png", "x2.png", "x3.png"):
        (elsewhere / name).unlink()  # the two left differ from those in root
    (root / "file.png").symlink_to(elsewhere / "x4.png")
    (root / "linked").symlink_to(elsewhere)
    (root / "z" / "loop").symlink_to(root)
    (root / "self.png").symlink_to(root / "self.png")
    (root / ".hidden.png").write_bytes(b"")
    (root / "folder.png").mkdir()
    (root / "notes.txt").write_text("no image")
    Image.fromarray(picture(60)).save(root / "\udcff.png", format="png")  # a name that is not UTF-8
    manifest = faces(root, size=20, N=3, test_size=1).manifest
    assert manifest["found"] == 9 and [name.split(" (")[0] for name in manifest["unreadable"]] == ["self.png"]
    assert manifest["near_duplicates"] == ["linked/x4.png"]  # the same file again
    assert sorted(itertools.chain(*manifest["parts"].values())) == sorted(
        ["B.PNG", "a.png", "file.png", "linked/x5.png", "z/deep/er/c d.bmp", "ünï cödé/日本 1.jpeg", "\udcff.png"]
    )


def test_only_the_needed_files_of_a_big_folder_are_read(tmp_path):
    names = [f"{i:03}.png" for i in range(100)]
    fill(tmp_path, names, height=12, width=12)
    for i in (*range(10, 46), *range(55, 90)):  # neither ends nor middle: they would be reported if they were read
        (tmp_path / names[i]).write_bytes(b"")
    data = faces(tmp_path, size=12, N=4, test_size=2)
    parts = data.manifest["parts"]
    assert data.manifest["found"] == 100 and data.manifest["read"] == 20 and data.manifest["unreadable"] == []
    assert parts["S1"] == names[:4] and parts["S2"] == names[:-5:-1] and set(parts["test"]) < set(names[45:56])


def test_more_files_are_read_if_duplicates_make_it_necessary(tmp_path):
    names = [f"{i:02}.png" for i in range(60)]
    fill(tmp_path, names, height=12, width=12)
    for name in names[:7]:
        Image.fromarray(picture(0, 12, 12)).save(tmp_path / name)
    for name in names[-7:]:
        Image.fromarray(picture(59, 12, 12)).save(tmp_path / name)
    data = faces(tmp_path, size=12, N=4, test_size=2)
    assert data.manifest["read"] == 40
    assert data.manifest["parts"]["S1"] == ["00.png", "07.png", "08.png", "09.png"]
    assert len(set(itertools.chain(*data.manifest["parts"].values()))) == 10


# --- Arrays -----------------------------------------------------------------------------------------------------------

COLORS = np.stack([picture(seed, 24, 24) for seed in range(5)])
OPACITY = 255 - COLORS[..., :1]


def layouts():
    tones = COLORS[..., 0]
    for name, images, expected in (
        ("n h w", tones, tones / 255),
        ("n h w 1", tones[..., None], tones / 255),
        ("n 1 h w", tones[:, None], tones / 255),
        ("n h w 3", COLORS, gray(COLORS)),
        ("n 3 h w", COLORS.transpose(0, 3, 1, 2), gray(COLORS)),
        ("n h w 4", np.concatenate([COLORS, OPACITY], axis=3), on_white(gray(COLORS), OPACITY[..., 0])),
    ):
        for dtype in ("uint8", "uint16", "float32", "float64", "int64"):
            scaled = (
                images / 255 if dtype.startswith("float") else images.astype(np.int64) * (257 if "16" in dtype else 1)
            )
            yield pytest.param(scaled.astype(dtype), expected, id=f"{name} {dtype}")


@pytest.mark.parametrize(("images", "expected"), list(layouts()))
def test_arrays_of_every_type_and_layout(images, expected, tmp_path):
    np.save(tmp_path / "faces.npy", images)
    data = faces(tmp_path / "faces.npy", size=24, N=2, test_size=1)
    assert data.pixels.dtype == torch.uint8 and data.S1.dtype == torch.float32
    assert np.abs(data.S1[:, 0].numpy() - expected[:2]).max() < 0.51 / 255


@pytest.mark.parametrize("dtype", ["uint16", "int32", "int64"])
def test_8_bits_in_a_wider_type_are_8_bits(dtype, tmp_path):
    """As 16 bits, 255 would be nearly black."""
    np.save(tmp_path / "faces.npy", COLORS[..., 0].astype(dtype))
    data = faces(tmp_path / "faces.npy", size=24, N=2, test_size=1)
    assert np.abs(data.S1[:, 0].numpy() - COLORS[:2, ..., 0] / 255).max() < 0.51 / 255


def test_8_bit_images_are_not_copied():
    """They may fill most of the memory."""
    assert np.shares_memory(as_gray(COLORS[..., 0], "faces")[0], COLORS)


@pytest.mark.parametrize("dtype", ["int32", "uint32"])
def test_integers_of_an_unknown_range_are_refused(dtype, tmp_path):
    np.save(tmp_path / "faces.npy", COLORS[..., 0].astype(dtype) * 30)
    with pytest.raises(ValueError, match=rf"holds {dtype} from .* uint8, uint16 or floats in \[0, 1\] are expected"):
        faces(tmp_path / "faces.npy", size=24, N=2, test_size=1)


def test_npz_and_pt_files_too(tmp_path):
    np.savez(tmp_path / "one.npz", anything=COLORS)
    np.savez(tmp_path / "named.npz", images=COLORS, labels=np.arange(5))
    torch.save(torch.from_numpy(COLORS), tmp_path / "tensor.pt")
    torch.save({"images": torch.from_numpy(COLORS), "about": "faces"}, tmp_path / "dict.PT")
    for name in ("one.npz", "named.npz", "tensor.pt", "dict.PT"):
        data = faces(tmp_path / name, size=24, N=2, test_size=1)
        assert np.abs(data.S1[0, 0].numpy() - gray(COLORS[0])).max() < 0.51 / 255


def bad_arrays():
    half = np.full((5, 24, 24), 0.5)
    over, under, nan = half.copy(), half.copy(), half.copy()
    over[0, 0, 0], under[0, 0, 0], nan[0, 0, 0] = 1.5, -0.1, np.nan
    balanced = np.full((5, 24, 24, 3), 0.5)
    balanced[0, 0, 0] = [-0.5, 0.5, 1.0]  # the mean is in range, the colors are not
    yield from (("over", over, "1.5"), ("under", under, "-0.1"), ("nan", nan, "nan"), ("balanced", balanced, "-0.5"))
    yield "levels", half * 255, r"\[0, 1\]"
    yield "negative", np.full((5, 24, 24), -3), "-3"
    yield "two channels", np.zeros((5, 2, 24, 24), dtype=np.uint8), "shape"
    yield "one image", np.zeros((24, 24), dtype=np.uint8), "shape"
    yield "none", np.zeros((0, 24, 24), dtype=np.uint8), "no images"
    yield "text", np.array([[["a"]]]), "holds <U1"
    yield "complex", half.astype(complex), "complex128"


@pytest.mark.parametrize(("images", "message"), [pytest.param(a, m, id=i) for i, a, m in bad_arrays()])
def test_arrays_that_are_not_images_are_refused(images, message, tmp_path):
    np.save(tmp_path / "faces.npy", images)
    with pytest.raises(ValueError, match=message) as error:
        faces(tmp_path / "faces.npy", size=24, N=1, test_size=1)
    assert "faces.npy" in str(error.value)
