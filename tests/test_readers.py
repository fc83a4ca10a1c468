"""What is read from whatever people have on their disk, and what is refused."""

import itertools
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from test_photographs import picture

from gahb.datasets import faces, scenes
from gahb.datasets._pixels import as_gray

PAGE = "\n <!DOCTYPE html><html><head><title>Quota exceeded</title></head><body>Sorry.</body></html>"


def fill(folder, names, **size):
    for seed, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed, **size)).save(file)
    return folder


def gray(colours):
    return colours.astype(float).mean(-1) / 255


# --- Files in a folder ------------------------------------------------------------------------------------------------

RGB, ALPHA = picture(100), picture(101, channels=1)
LEVELS = RGB[..., 0]
TWO_TONES = np.stack([np.arange(256), np.arange(256), np.zeros(256)], axis=1).astype(np.uint8)  # yellow palette


def save(kind, file):
    """Write the picture in one of the forms that files have."""
    if kind == "palette":
        image = Image.frombytes("P", LEVELS.shape[::-1], LEVELS.tobytes())
        image.putpalette(TWO_TONES.tobytes())
        image.save(file, transparency=bytes(range(256)))
    elif kind == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was turned: show it a quarter clockwise
        Image.fromarray(np.rot90(RGB)).save(file, exif=exif, quality=98, subsampling=0)
    else:
        arrays = {"gray": LEVELS, "colour": RGB, "colour jpeg": RGB, "opacity": np.dstack([RGB, ALPHA]),
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
    "colour": (".png", gray(RGB), 0.51),
    "colour jpeg": (".jpg", gray(RGB), 6),
    "opacity": (".png", gray(RGB), 0.51),
    "palette": (".png", LEVELS / 255 * 2 / 3, 0.51),
    "16 bits": (".png", LEVELS / 255, 0.51),
    "float": (".tif", LEVELS / 255, 0.51),
    "gray and opacity": (".png", LEVELS / 255, 0.51),
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
    (root / "notes.txt").write_text("no image")
    manifest = faces(root, size=20, N=2, test_size=2).manifest
    assert manifest["found"] == 8 and [name.split(" (")[0] for name in manifest["unreadable"]] == ["self.png"]
    assert manifest["near_duplicates"] == ["linked/x4.png"]  # the same file again
    assert sorted(itertools.chain(*manifest["parts"].values())) == sorted(
        ["B.PNG", "a.png", "file.png", "linked/x5.png", "z/deep/er/c d.bmp", "ünï cödé/日本 1.jpeg"]
    )


def damage(folder):
    Image.fromarray(picture(50)).save(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:600])
    (folder / "whole.jpg").unlink()
    (folder / "empty.png").write_bytes(b"")
    (folder / "page.jpg").write_text(PAGE)
    (folder / "dir.jpg").mkdir()
    return ["cut.jpg", "empty.png", "page.jpg"]


def test_damaged_files_are_named_and_not_fatal(tmp_path):
    fill(tmp_path, ["1.png", "2.png", "m.png", "y.png", "z.png"])
    damaged = damage(tmp_path)
    data = faces(tmp_path, size=20, N=2, test_size=1)
    assert [name.split(" (")[0] for name in data.manifest["unreadable"]] == damaged
    assert data.manifest["found"] == 8 and data.manifest["read"] == 5


def test_too_few_is_an_error_that_counts_and_says_what_to_do(tmp_path):
    fill(tmp_path, ["1.png", "2.png", "3.png"])
    damage(tmp_path)
    Image.fromarray(picture(0)).save(tmp_path / "again.png")
    with pytest.raises(ValueError, match=r"has 3 usable") as error:
        faces(tmp_path, size=20, N=2, test_size=1)
    for part in ("7 found", "3 unreadable", "1 near duplicates", "= 5 are needed", "Give a larger", "cut.jpg"):
        assert part in str(error.value)


def test_a_folder_without_images_has_none(tmp_path):
    with pytest.raises(ValueError, match="has 0 usable photographs"):
        scenes(tmp_path, size=20, N=1, test_size=1)


def test_only_the_needed_files_of_a_big_folder_are_read(tmp_path):
    names = [f"{i:03}.png" for i in range(100)]
    fill(tmp_path, names, height=12, width=12)
    for i in (*range(10, 46), *range(55, 90)):  # neither end nor middle: would be named if they were read
        (tmp_path / names[i]).write_bytes(b"")
    data = faces(tmp_path, size=12, N=4, test_size=2)
    parts = data.manifest["parts"]
    assert data.manifest["found"] == 100 and data.manifest["read"] == 20 and data.manifest["unreadable"] == []
    assert parts["S1"] == names[:4] and parts["S2"] == names[:-5:-1] and set(parts["test"]) < set(names[45:56])


def test_more_are_read_where_duplicates_ask_for_it(tmp_path):
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

COLOURS = np.stack([picture(seed, 24, 24) for seed in range(5)])


def layouts():
    tones = COLOURS[..., 0]
    for name, images, expected in (
        ("n h w", tones, tones / 255),
        ("n h w 1", tones[..., None], tones / 255),
        ("n 1 h w", tones[:, None], tones / 255),
        ("n h w 3", COLOURS, gray(COLOURS)),
        ("n 3 h w", COLOURS.transpose(0, 3, 1, 2), gray(COLOURS)),
        ("n h w 4", np.concatenate([COLOURS, 255 - COLOURS[..., :1]], axis=3), gray(COLOURS)),
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
    """Taken for 16 bits, 255 would be nearly black."""
    np.save(tmp_path / "faces.npy", COLOURS[..., 0].astype(dtype))
    data = faces(tmp_path / "faces.npy", size=24, N=2, test_size=1)
    assert np.abs(data.S1[:, 0].numpy() - COLOURS[:2, ..., 0] / 255).max() < 0.51 / 255


def test_8_bit_images_are_not_copied():
    """They may fill most of the memory."""
    assert np.shares_memory(as_gray(COLOURS[..., 0], "faces"), COLOURS)


@pytest.mark.parametrize("dtype", ["int32", "uint32"])
def test_integers_of_an_unknown_range_are_refused(dtype, tmp_path):
    np.save(tmp_path / "faces.npy", COLOURS[..., 0].astype(dtype) * 30)
    with pytest.raises(ValueError, match=rf"holds {dtype} from .* uint8, uint16 or floats in \[0, 1\] are expected"):
        faces(tmp_path / "faces.npy", size=24, N=2, test_size=1)


def test_npz_and_pt_files_too(tmp_path):
    np.savez(tmp_path / "one.npz", anything=COLOURS)
    np.savez(tmp_path / "named.npz", images=COLOURS, labels=np.arange(5))
    torch.save(torch.from_numpy(COLOURS), tmp_path / "tensor.pt")
    torch.save({"images": torch.from_numpy(COLOURS), "about": "faces"}, tmp_path / "dict.PT")
    for name in ("one.npz", "named.npz", "tensor.pt", "dict.PT"):
        data = faces(tmp_path / name, size=24, N=2, test_size=1)
        assert np.abs(data.S1[0, 0].numpy() - gray(COLOURS[0])).max() < 0.51 / 255


def bad_arrays():
    half = np.full((5, 24, 24), 0.5)
    over, under, nan = half.copy(), half.copy(), half.copy()
    over[0, 0, 0], under[0, 0, 0], nan[0, 0, 0] = 1.5, -0.1, np.nan
    balanced = np.full((5, 24, 24, 3), 0.5)
    balanced[0, 0, 0] = [-0.5, 0.5, 1.0]  # the mean is in range, the colours are not
    yield from (("over", over, "1.5"), ("under", under, "-0.1"), ("nan", nan, "nan"), ("balanced", balanced, "-0.5"))
    yield "levels", half * 255, r"\[0, 1\]"
    yield "negative", np.full((5, 24, 24), -3), "-3"
    yield "two channels", np.zeros((5, 2, 24, 24), dtype=np.uint8), "shape"
    yield "one image", np.zeros((24, 24), dtype=np.uint8), "shape"
    yield "none", np.zeros((0, 24, 24), dtype=np.uint8), "no images"
    yield "text", np.array([[["a"]]]), "holds <U1"
    yield "complex", half.astype(complex), "complex128"


@pytest.mark.parametrize(("images", "message"), [pytest.param(a, m, id=i) for i, a, m in bad_arrays()])
def test_arrays_that_are_no_images_are_refused(images, message, tmp_path):
    np.save(tmp_path / "faces.npy", images)
    with pytest.raises(ValueError, match=message) as error:
        faces(tmp_path / "faces.npy", size=24, N=1, test_size=1)
    assert "faces.npy" in str(error.value)


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_the_malicious_object_would_run(tmp_path):
    pickle.loads(pickle.dumps(Malicious(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["pickle.npy", "object.npy", "object.npz", "object.pt", "dict.pt", "pickle.pt"])
def test_files_that_need_code_are_refused_and_nothing_runs(name, tmp_path):
    evil, file = Malicious(tmp_path / "ran"), tmp_path / name
    objects = np.empty(1, dtype=object)
    objects[0] = evil
    if name == "object.npy":
        np.save(file, objects, allow_pickle=True)
    elif name == "object.npz":
        np.savez(file, images=objects)
    elif name.startswith("pickle"):
        file.write_bytes(pickle.dumps(evil))
    else:
        torch.save({"images": evil} if name == "dict.pt" else evil, file)
    with pytest.raises(ValueError, match=rf"{name}.*refused"):
        faces(file, size=20, N=1, test_size=1)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["faces.npz", "faces.zip", "faces.pt"])
def test_a_web_page_under_another_name_is_recognized(name, tmp_path):
    (tmp_path / name).write_text(PAGE)
    with pytest.raises(ValueError, match=rf"{name} is a web page"):
        faces(tmp_path / name)


def test_other_sources_are_refused_with_what_to_do(tmp_path):
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        archive.writestr("../outside.txt", "x")
    with pytest.raises(ValueError, match="unpack an archive first"):
        faces(tmp_path / "faces.zip")
    assert not (tmp_path.parent / "outside.txt").exists()
    with pytest.raises(FileNotFoundError, match=r"no folder or file .*absent"):
        faces(tmp_path / "absent")
    for name in ("cut.npz", "cut.npy", "cut.pt"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 cut" if name != "cut.npy" else b"\x93NUMPY\x01")
        with pytest.raises(ValueError, match=f"{name} could not be read"):
            faces(tmp_path / name)
    np.savez(tmp_path / "two.npz", a=COLOURS, b=COLOURS)
    with pytest.raises(ValueError, match="name the array of images 'images'"):
        faces(tmp_path / "two.npz")
