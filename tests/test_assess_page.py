"""``gahb assess``: folders and arrays as people have them, what the page says, and the sentence that a mistake gets."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import fill, gray_pictures, picture
from PIL import Image

from gahb.companion.cli import main
from gahb.datasets.image_sets import read_images


def run(folder, samples="samples", train="train", **options):
    options = {"samples": samples, "train": train} | options | {"out": options.get("out", "out")}
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(folder / value))]
    return CliRunner().invoke(main, ["assess", *arguments])


def read(folder):
    return json.loads((folder / "out" / "assessment.json").read_text())


def save(folder, images, names=None, mode=None):
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        image = Image.fromarray(image)
        (image.convert(mode) if mode else image).save(folder / (names[i] if names else f"{i:03}.png"))
    return folder


@pytest.fixture
def here(tmp_path):
    """Colour pictures: 30 to train on, 20 unseen; 12 samples, of which one is a copy and one a mirrored JPEG."""
    save(tmp_path / "train", [picture(seed) for seed in range(30)])
    save(tmp_path / "unseen", [picture(seed) for seed in range(30, 50)])
    samples = [picture(4), picture(9)[:, ::-1], *(picture(seed) for seed in range(50, 60))]
    save(tmp_path / "samples", samples, ["a.png", "b.jpg", *(f"n{i}.png" for i in range(10))])
    save(tmp_path / "twin", samples)
    return tmp_path


def test_the_page_and_the_numbers(here):
    result = run(here, unseen="unseen", twin="twin")
    assert result.exit_code == 0, result.output
    record = read(here)
    page = (here / "out" / "assessment.html").read_text(encoding="utf-8")
    assert "2 of 12 samples (16.7 %, 95 % interval 2.09 to 48.4 %) copy a training image." in result.output
    assert "The same rule calls 0 of 12 unseen images (0 %, 95 % interval 0 to 26.5 %) copies." in result.output
    assert [(row["sample"], row["nearest"], row["mirrored"]) for row in record["closest"][:2]] == [
        ("a.png", "004.png", False),
        ("b.jpg", "009.png", True),
    ]
    assert [row["copy"] for row in record["each_sample"]] == 2 * [True] + 10 * [False]
    assert (record["channels"], record["size"], record["copies"]["count"]) == (3, [40, 40], 2)
    assert page.count("<figure>") == 10 and page.count("data:image/png;base64,") == 20
    assert "http" not in page and "<script" not in page  # one file, which loads nothing
    for line in record["findings"]:
        assert line in page
    assert "out of scope" in page and "Mirrored copies" in page and "JPEG of quality 90, 70, 50, 30" in page


def test_an_unseen_image_that_is_in_the_training_set_is_named(here):
    save(here / "unseen", [picture(7)[:, ::-1]], ["shared.png"])
    result = run(here, unseen="unseen")
    assert read(here)["unseen_copies"] == [["shared.png", "007.png"]]
    assert "The same rule calls 1 of 12 unseen images" in result.output
    page = (here / "out" / "assessment.html").read_text(encoding="utf-8")
    assert "shared.png is called a copy of 007.png" in page


def test_names_are_text_on_the_page(here):
    (here / "samples" / "a.png").rename(here / "samples" / "<b>a&.png")
    assert run(here).exit_code == 0
    page = (here / "out" / "assessment.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;a&amp;.png" in page and "<b>a" not in page


def test_one_gray_image_makes_all_gray_and_that_is_said(here):
    save(here / "train", [picture(70)], ["x.png"], "L")
    result = run(here, unseen="unseen")
    assert result.exit_code == 0, result.output
    assert "Compared in gray, the mean of the channels, as not all images have colours." in result.output
    assert (read(here)["channels"], read(here)["copies"]["count"]) == (1, 2)


def test_larger_training_images_are_resized_and_that_is_said(here):
    save(here / "large", [picture(seed, 80, 100) for seed in range(30)])
    copy = Image.fromarray(picture(3, 80, 100)).crop((10, 0, 90, 80)).resize((40, 40), Image.BOX)
    copy.save(here / "samples" / "a.png")
    result = run(here, train="large")
    assert result.exit_code == 0, result.output
    assert "images of 80 x 100 (30) were cropped to the central square and resized to 40 x 40" in result.output
    assert read(here)["closest"][0]["sample"] == "a.png"
    assert read(here)["each_sample"][0]["copy"]


def test_near_duplicates_and_unreadable_files_are_listed(here):
    save(here / "train", [picture(5), picture(6)], ["again.jpg", "<i>.png"])
    (here / "train" / "cut.png").write_bytes(b"\x89PNG")
    (here / "train" / "photo.heic").write_bytes(b"photograph")
    result = run(here)
    assert result.exit_code == 0, result.output
    assert read(here)["near_duplicates"] == [["<i>.png", "006.png"], ["again.jpg", "005.png"]]
    assert "train: 1 files could not be read, such as cut.png" in result.output
    assert "train: .heic" in result.output
    page = (here / "out" / "assessment.html").read_text(encoding="utf-8")
    assert "again.jpg repeats 005.png" in page and "&lt;i&gt;.png repeats 006.png" in page


def test_arrays_in_either_layout(here):
    train = np.stack([picture(seed) for seed in range(30)])
    np.save(here / "train.npy", train)
    torch.save(torch.from_numpy(train[:4]).permute(0, 3, 1, 2).float() / 255, here / "samples.pt")
    assert run(here, "samples.pt", "train.npy").exit_code == 0
    assert (read(here)["copies"]["count"], read(here)["channels"]) == (4, 3)
    assert read(here)["each_sample"][3]["nearest"] == "3"


def test_one_sample_and_one_training_image(here):
    save(here / "one", [picture(4)])
    result = run(here, "one", out="first")
    assert "1 of 1 samples (100 %, 95 % interval 2.5 to 100 %) copy a training image." in result.output
    result = run(here, train="one", unseen="unseen", out="out")
    assert result.exit_code == 0, result.output
    assert "The training set holds one picture. There is no second nearest image" in result.output
    assert read(here)["copies"] is None and read(here)["each_sample"][0]["distance_ratio"] is None
    assert read(here)["each_sample"][0]["similarity"] == pytest.approx(1, abs=1e-3)


def empty(here):
    (here / "empty").mkdir()
    (here / "empty" / "notes.txt").write_text("none")
    return {"samples": "empty"}


def all_damaged(here):
    (here / "bad").mkdir()
    (here / "bad" / "a.png").write_bytes(b"\x89PNG")
    return {"train": "bad"}


def two_sizes(here):
    save(here / "samples", [picture(1, 20, 20)], ["z.png"])
    return {}


def wide(here):
    save(here / "wide", [picture(seed, 40, 60) for seed in range(3)])
    return {"samples": "wide"}


def twin_of_another_size(here):
    save(here / "small", [picture(seed, 20, 20) for seed in range(12)])
    return {"twin": "small"}


def shorter_twin(here):
    (here / "twin" / "003.png").unlink()
    return {"twin": "twin"}


def damaged_twin(here):
    (here / "twin" / "003.png").write_bytes(b"\x89PNG")
    return {"twin": "twin"}


def hole(here):
    images = gray_pictures(5).astype(np.float32) / 255
    images[2, 3, 4] = np.nan
    np.save(here / "hole.npy", images)
    return {"samples": "hole.npy"}


def no_folder(here):
    return {"unseen": "nowhere"}


def same(here):
    return {"unseen": "train"}


def done_before(here):
    assert run(here).exit_code == 0
    return {}


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (empty, "samples: folder empty holds no readable image"),
        (all_damaged, "train: folder bad holds no readable image. Unreadable: a.png"),
        (two_sizes, "samples: z.png is 20 x 20 (height x width), where 40 x 40 is expected"),
        (wide, "train: 000.png is 40 x 40 (height x width), and the samples 40 x 60: only to a square could it be"),
        (twin_of_another_size, "twin: 000.png is 20 x 20 (height x width), where 40 x 40 is expected"),
        (shorter_twin, "samples and twin must be pairs, in the order of their names: samples are 12 images"),
        (damaged_twin, "twin 11 (1 unreadable)"),
        (hole, "samples: hole.npy holds float32 from nan to nan"),
        (no_folder, "unseen: there is no folder or file"),
        (same, "train and unseen are the same"),
        (done_before, "assessment.html exists already; give another folder with --out"),
    ],
)
def test_each_mistake_gets_one_sentence(here, make, sentence):
    result = run(here, **make(here))
    assert result.exit_code == 1
    assert result.stderr.startswith("gahb: ") and result.stderr.count("\n") == 1
    assert sentence in result.stderr


# --- What is read -----------------------------------------------------------------------------------------------------


def test_colours_are_those_of_pillow_and_arrays(tmp_path):
    pictures = [picture(seed) for seed in range(3)]
    save(tmp_path / "files", pictures)
    expected = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    assert torch.equal(read_images(tmp_path / "files", "train").pixels, expected)
    for name, array in {
        "last": np.stack(pictures), "first": expected.numpy(), "float": np.stack(pictures) / 255,
        "16 bits": np.stack(pictures).astype(np.uint16) * 257, "wide": np.stack(pictures).astype(np.int64),
    }.items():  # fmt: skip
        np.save(tmp_path / f"{name}.npy", array)
        assert torch.equal(read_images(tmp_path / f"{name}.npy", "train").pixels, expected), name


def test_gray_is_the_mean_of_the_channels_however_it_comes_about(tmp_path):
    colours = fill(tmp_path / "colours", ["a.png", "b.png"])
    mean = np.stack([picture(seed).astype(float).mean(-1) for seed in range(2)])
    asked = read_images(colours, "train", color=False).pixels[:, 0]
    np.testing.assert_allclose(asked, mean, atol=0.51)
    for name in ("0.png", "z.png"):  # a gray image first, and last
        save(colours, [picture(8)], [name], "L")
        mixed = read_images(colours, "train")
        assert mixed.pixels.shape == (3, 1, 40, 40)
        assert torch.equal(mixed.pixels[["0" not in each and each != "z.png" for each in mixed.names], 0], asked)
        (colours / name).unlink()


def test_transparent_parts_are_white(tmp_path):
    alpha = np.zeros((40, 40, 1), dtype=np.uint8)
    alpha[:20] = 255
    image = np.dstack([picture(0), alpha])
    save(tmp_path / "files", [image])
    np.save(tmp_path / "array.npy", image[None])
    for source in ("files", "array.npy"):
        found = read_images(tmp_path / source, "train")
        pixels = found.pixels[0]
        assert "transparent parts are shown on white" in found.notes[0] and len(found.notes) == 1
        assert torch.equal(pixels[:, :20], torch.from_numpy(picture(0)).permute(2, 0, 1)[:, :20])
        assert (pixels[:, 20:] == 255).all()


def test_a_dark_block_of_16_bits_is_not_taken_for_8(tmp_path):
    images = np.full((1000, 8, 8), 65535, dtype=np.uint16)
    images[:600] = 200
    np.save(tmp_path / "dark.npy", images)
    pixels = read_images(tmp_path / "dark.npy", "train").pixels
    assert (pixels[:600] == 1).all() and (pixels[600:] == 255).all()
