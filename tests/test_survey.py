"""``gahb data``: its counts against what was put there, and that its contact sheet harms nothing."""

import re

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import PAGE, fill, gray_pictures, locked, picture
from PIL import Image

from gahb.companion import scales
from gahb.companion.cli import main
from gahb.datasets import faces
from gahb.datasets.survey import contact_sheet, survey


@pytest.fixture
def mixed(tmp_path):
    """Seven pictures of several sizes and modes, two near duplicates, and four files that cannot be read."""
    folder = fill(tmp_path / "my faces", ["a.png", "b.png", "c.jpg", "ünï/日本.png", "x.png"])
    Image.fromarray(picture(7, 50, 60)[..., 0]).save(folder / "y.png")
    Image.fromarray(picture(8, 218, 178)).convert("CMYK").save(folder / "z.jpg")
    for name in ("d.png", "w.png"):
        Image.fromarray(picture(0)).save(folder / name)  # a.png again
    whole = (folder / "c.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "page.jpg").write_text(PAGE)
    (folder / "dir.jpg").mkdir()
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    return folder


def run(*arguments):
    return CliRunner().invoke(main, ["data", *map(str, arguments)])


def test_what_is_there_is_counted_and_named(mixed, tmp_path, monkeypatch):
    assert torch.equal(survey(mixed, size=20).pixels, faces(mixed, size=20, N=3, test_size=1).pixels)
    monkeypatch.chdir(tmp_path)
    result = run(mixed, "--size", 20, "--sheet", "sheet.png")
    assert result.exit_code == 0, result.output
    for line in (
        "folder my faces: 13 images, 13 examined",
        "  sizes     40 x 40: 7, 50 x 60: 1, 218 x 178: 1 (height x width)",
        "  modes     RGB: 7, L: 1, CMYK: 1",
        "  unreadable: 4",
        *("    cut.jpg (truncated)", "    empty.png (empty)", "    gone.jpg (No such file or directory)"),
        *("    page.jpg (a web page)", "  near duplicates: 2", "    d.png", "    w.png", "  usable: 7"),
        "    smoke       faces   N = 1 needs 22; N = 10 needs 40; N = 40 needs 100",
        "contact sheet: sheet.png",
    ):
        assert line in result.output.splitlines()
    assert np.asarray(Image.open("sheet.png")).shape == (3 * 84 + 4, 3 * 84 + 4)


@pytest.mark.parametrize(
    ("usable", "said", "N"),
    [
        (21, "N = 1 needs 22; N = 10 needs 40; N = 40 needs 100", []),
        (39, "N = 1 is possible; N = 10 needs 40; N = 40 needs 100", [1]),
        (40, "N = 1 is possible; N = 10 is possible; N = 40 needs 100", [1, 10]),
        (100, "N = 1 is possible; N = 10 is possible; N = 40 is possible", [1, 10, 40]),
    ],
)
def test_the_sizes_that_it_promises_are_those_that_a_training_gets(usable, said, N, tmp_path):
    np.save(tmp_path / "a.npy", gray_pictures(usable, 20, 20))
    found = survey(tmp_path / "a.npy", size=20)
    assert found.lines([("smoke", "faces", (1, 10, 40), 20)])[-1] == f"    smoke       faces   {said}"
    for n in (1, 10, 40):
        if n in N:
            assert len(faces(tmp_path / "a.npy", 20, n, 20).S1) == n
        else:
            with pytest.raises(ValueError, match=f"has {usable} usable"):
                faces(tmp_path / "a.npy", 20, n, 20)


def test_no_more_is_read_than_is_needed(tmp_path, monkeypatch):
    names = [f"{i:02}.png" for i in range(30)]
    fill(tmp_path, names, height=8, width=8)
    for name in names[8:13] + names[17:22]:  # neither ends nor middle: they would be reported if they were read
        (tmp_path / name).write_bytes(b"")
    found = survey(tmp_path, size=8, most=20, progress=False)
    assert (found.found, found.examined, len(found.pixels), found.unreadable) == (30, 20, 20, [])
    assert found.lines()[0].endswith("30 images, 20 examined")
    monkeypatch.setattr(scales, "SCALES", {"tiny": scales.Scale("tiny", 8, (1, 4), 2, 8, 3, 2)})
    assert "30 images, 20 examined" in run(tmp_path, "--size", 8).output


def test_long_lists_are_cut_short_and_odd_names_can_be_printed(tmp_path):
    fill(tmp_path, ["a.png"])
    for i in range(14):
        (tmp_path / f"e{i:02}.png").write_bytes(b"")
    lines = survey(tmp_path).lines()
    assert "    e09.png (empty)" in lines and "    and 4 more" in lines and not any("e10" in line for line in lines)
    (tmp_path / "0\udcff.png").write_bytes(b"")  # a name that is not UTF-8
    "\n".join(survey(tmp_path).lines()).encode("utf-8")


def test_arrays_and_the_layout_of_celeba_are_reported(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.stack([picture(seed, 24, 20) for seed in range(3)]))
    found = survey(tmp_path / "a.npz", size=12)
    assert found.sizes == {"24 x 20": 3} and found.modes == {"uint8, 24x20x3": 3}
    fill(tmp_path / "celeba", ["img_align_celeba/000001.jpg"], height=218, width=178)
    assert any("the central 160 x 160" in line for line in survey(tmp_path / "celeba").lines())


def test_unreadable_folders_are_reported(tmp_path):
    fill(tmp_path / "f", ["a.png", "in/b.png", "in/c.png"])
    (tmp_path / "g" / "in").mkdir(parents=True)
    with locked(tmp_path / "f" / "in", tmp_path / "g" / "in"):
        found = survey(tmp_path / "f")
        result = run(tmp_path / "g")
    assert found.found == 1 and found.unreadable == ["in (Permission denied)"]
    assert "    in (Permission denied)" in found.lines()
    assert result.exit_code == 1 and "Unreadable folders: in (Permission denied)." in result.stderr


# --- The contact sheet ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "shown"), [(1, [0]), (5, [0, 1, 2, 3, 4]), (201, [0, 2, 100, 200])])
def test_the_sheet_shows_evenly_spaced_images_as_they_are(n, shown, tmp_path):
    pixels = torch.stack([torch.full((1, 16, 16), i, dtype=torch.uint8) for i in range(n)])
    contact_sheet(pixels, tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    columns = round(min(n, 100) ** 0.5)
    assert sheet.shape[1] == columns * 84 + 4
    places = {0: 0, n - 1: min(n, 100) - 1} | ({i: i for i in shown} if n < 100 else {2: 1, 100: 50, 200: 99})
    for value in shown:
        row, column = divmod(places[value], columns)
        tile = sheet[4 + 84 * row : 84 + 84 * row, 4 + 84 * column : 84 + 84 * column]
        assert tile.shape == (80, 80) and (abs(tile.astype(int) - value) <= 1).all()


def test_nothing_is_overwritten(mixed, tmp_path):
    (tmp_path / "notes.png").write_text("notes")
    (tmp_path / "folder.png").mkdir()
    for name in ("notes.png", "folder.png"):
        result = run(mixed, "--sheet", tmp_path / name)
        assert result.exit_code == 1 and f"{name} exists already; give the contact sheet another path" in result.stderr
    assert (tmp_path / "notes.png").read_text() == "notes" and not list((tmp_path / "folder.png").iterdir())


# --- What cannot be surveyed ------------------------------------------------------------------------------------------


def test_a_source_without_photographs_gets_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "archived").mkdir()
    (tmp_path / "phone" / "100APPLE").mkdir(parents=True)
    (tmp_path / "phone" / "taken.in 2024").mkdir()  # a folder does not count as a kind of file
    (tmp_path / "phone" / "100APPLE" / "1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    for name in ("archived/celeba.zip", "celeba.tar.gz"):
        (tmp_path / name).write_bytes(b"PK\x03\x04")
    (tmp_path / "measured").mkdir()
    np.savez(tmp_path / "measured" / "z.npz", images=np.zeros((3, 8, 8)))
    for name, message in {
        "absent": "there is no folder or file /.*/absent; give a folder of images or an array",
        "empty": "folder empty holds no images; give a folder of images or an array.",
        "archived": "folder archived holds no images; .* It holds celeba.zip: unpack it.",
        "phone": r"folder phone holds no images; .* It holds \.heic files; images must be .*",
        "celeba.tar.gz": r"celeba.tar.gz is neither a folder of images nor an array .*; unpack an archive first",
        "measured": "folder measured holds no images; .* It holds z.npz: give that file.",
    }.items():
        result = run(name)
        assert result.exit_code == 1 and re.fullmatch(f"gahb: data: {message}\n", result.output), result.output
    assert not list(tmp_path.glob("*.png"))


def test_if_nothing_is_readable_there_is_a_list_and_no_sheet(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "page.jpg").write_text(PAGE)
    result = run(tmp_path / "bad", "--sheet", tmp_path / "sheet.png")
    assert result.exit_code == 1 and "there are no images for a contact sheet" in result.stderr
    assert "page.jpg (a web page)" in result.output and "usable: 0" in result.output
    assert not list(tmp_path.glob("*.png"))
