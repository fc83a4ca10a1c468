"""Prepared photographs are kept: what is read again, what is not, and what two processes at once do."""

import hashlib
import os
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from helpers import fill, gray_pictures, picture
from PIL import Image

from gahb.companion import notebook, scales, tasks
from gahb.datasets import _readers, faces, scenes

NAMES = [f"{i}.png" for i in range(8)]
ASKED = {"size": 12, "N": 2, "test_size": 2}


@pytest.fixture
def source(tmp_path):
    return fill(tmp_path / "my faces", NAMES, height=16, width=16)


@pytest.fixture
def reads(monkeypatch):
    """What is opened as an image or loaded as an array."""
    opened, open_image, load = [], Image.open, np.load
    monkeypatch.setattr(Image, "open", lambda file: (opened.append(file), open_image(file))[1])
    monkeypatch.setattr(np, "load", lambda file, **kw: (opened.append(file), load(file, **kw))[1])
    return opened


def kept(cache):
    return sorted(path for path in cache.glob("*/*") if not path.name.startswith("."))


def test_the_second_time_no_image_is_read_and_all_is_equal(source, tmp_path, reads, monkeypatch):
    first = faces(source, **ASKED, cache=tmp_path / "cache")
    assert len(reads) == 8
    monkeypatch.chdir(tmp_path)
    again = faces("my faces", **ASKED, cache="cache")  # the same folder by another path
    plain = faces(source, **ASKED)
    assert len(reads) == 8 + 8  # those of the one without a cache
    for other in (again, plain):
        assert torch.equal(first.pixels, other.pixels) and first.manifest == other.manifest
        assert torch.equal(first.S2, other.S2) and torch.equal(first.test, other.test)
    manifest, pixels = kept(tmp_path / "cache")
    assert manifest.name == f"manifest-{first.manifest['sha256'][:10]}.json"
    assert first.manifest["sha256"] == hashlib.sha256(again.pixels.numpy().tobytes()).hexdigest()
    assert pixels.parent.name.startswith("faces-12-") and str(tmp_path) not in manifest.read_text()


@pytest.mark.parametrize("other", [{"size": 10}, {"N": 3}, {"test_size": 1}])
def test_what_is_asked_for_is_part_of_what_is_kept(other, source, tmp_path, reads):
    faces(source, **ASKED, cache=tmp_path / "cache")
    data = faces(source, **ASKED | other, cache=tmp_path / "cache")
    assert len(reads) == 16 and torch.equal(data.pixels, faces(source, **ASKED | other).pixels)
    assert scenes(source, **ASKED, cache=tmp_path / "cache").manifest["kind"] == "scenes"


def add(folder):
    Image.fromarray(picture(20, 16, 16)).save(folder / "00.png")


def remove(folder):
    (folder / "0.png").unlink()


def resize(folder):
    before = (folder / "0.png").stat()
    Image.fromarray(picture(20, 18, 18)).save(folder / "0.png")
    assert before.st_size != (folder / "0.png").stat().st_size
    os.utime(folder / "0.png", ns=(before.st_atime_ns, before.st_mtime_ns))


def rewrite(folder):
    before = (folder / "0.png").stat()
    content = (folder / "1.png").read_bytes()
    (folder / "0.png").write_bytes(content)
    os.truncate(folder / "0.png", before.st_size)  # the same size: a PNG may be followed by anything
    os.utime(folder / "0.png", ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert (folder / "0.png").stat().st_size == before.st_size


def rename(folder):
    (folder / "0.png").rename(folder / "9.png")


@pytest.mark.parametrize("change", [add, remove, resize, rewrite, rename])
def test_a_changed_folder_is_noticed_and_read_again(change, source, tmp_path, capsys):
    if change is rewrite:
        for name in ("0.png", "1.png"):  # as long as each other, so that one can take the other's place
            content = (source / name).read_bytes()
            (source / name).write_bytes(content.ljust(5000, b"\0"))
    cache = tmp_path / "cache"
    before = faces(source, **ASKED, cache=cache)
    assert capsys.readouterr().err == ""
    change(source)
    after = faces(source, **ASKED, cache=cache)
    assert after.manifest != before.manifest and not torch.equal(after.S1, before.S1)
    assert after.manifest == faces(source, **ASKED).manifest
    assert "faces has changed" in capsys.readouterr().err
    assert len(kept(cache)) == 3  # both manifests, and one set of pixels
    assert faces(source, **ASKED, cache=cache).manifest == after.manifest and capsys.readouterr().err == ""


def test_a_changed_array_too(tmp_path, reads):
    tones = gray_pictures(6)
    np.save(tmp_path / "a.npy", tones)
    first, again = (faces(tmp_path / "a.npy", **ASKED, cache=tmp_path / "cache") for _ in range(2))
    assert len(reads) == 1 and torch.equal(first.pixels, again.pixels)
    np.save(tmp_path / "a.npy", tones[::-1])
    os.utime(tmp_path / "a.npy", (0, 0))
    assert torch.equal(faces(tmp_path / "a.npy", **ASKED, cache=tmp_path / "cache").pixels, first.pixels.flip(0))
    assert len(reads) == 2


def test_nothing_is_kept_of_what_failed_or_was_left_over(source, tmp_path):
    cache = tmp_path / "cache"
    with pytest.raises(ValueError, match="has 8 usable"):
        faces(source, 12, 9, 2, cache=cache)
    assert kept(cache) == []
    (folder,) = cache.iterdir()
    leftover = folder / ".pixels.safetensors.0123.tmp"  # of one that was killed
    leftover.write_bytes(b"half")
    for seed in range(8, 30):
        Image.fromarray(picture(seed, 16, 16)).save(source / f"{seed}.png")
    faces(source, 12, 9, 2, cache=cache)
    assert len(kept(cache)) == 2 and not leftover.exists()


def test_two_processes_at_once_read_each_image_once(source, tmp_path):
    script = """
    import sys, time
    from pathlib import Path
    from PIL import Image
    from gahb.datasets import faces
    opened, open_image = [], Image.open
    def slow(file):
        opened.append(file)
        time.sleep(0.1)
        return open_image(file)
    Image.open = slow
    Path(sys.argv[3], f"ready{sys.argv[4]}").touch()
    while not Path(sys.argv[3], "go").exists():
        time.sleep(0.01)
    print(faces(sys.argv[1], 12, 2, 2, cache=sys.argv[2]).manifest["sha256"], len(opened))
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script), source, tmp_path / "cache", tmp_path]
    processes = [subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE, text=True) for i in range(2)]
    deadline = time.monotonic() + 100
    while len(list(tmp_path.glob("ready*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    (tmp_path / "go").touch()
    outcomes = sorted(tuple(process.communicate(timeout=100)[0].split()) for process in processes)
    checksum = faces(source, **ASKED).manifest["sha256"]
    assert outcomes == [(checksum, "0"), (checksum, "8")]


@pytest.fixture
def prepared(monkeypatch):
    """Names of the sources that were prepared."""
    names, read = [], _readers.Array.read
    monkeypatch.setattr(_readers.Array, "read", lambda *args: (names.append(str(args[0])), read(*args))[1])
    return names


@pytest.mark.parametrize(
    ("only", "sources"), [(["disks"], []), (["scenes-S2"], ["scenes"]), (["shuffled", "ray"], ["faces"])]
)
def test_only_photographs_that_are_needed_are_prepared(only, sources, prepared, tmp_path):
    smoke = scales.get("smoke")
    names = [recipe.name for recipe, _ in tasks.of_scale(smoke, only, store=tmp_path)]
    assert names == [name for name in scales.names(smoke) if name.startswith(tuple(only))]
    assert prepared == [f"the {source} inside scikit-image" for source in sources]


def test_notebooks_and_trainings_use_the_same_photographs(prepared, tmp_path):
    store, figures = str(tmp_path / "store"), str(tmp_path / "figures")
    found = tasks.of_scale(scales.get("smoke"), ["faces-S1", "scenes"], store=store)
    images_of = {recipe.name: images for recipe, images in found}
    both = ["the faces inside scikit-image", "the scenes inside scikit-image"]
    assert prepared == both
    for name in ("01_memorization_transition", "02_model_variance"):
        run = notebook.start(name, store=store, figures=figures)
        recipe = scales.photograph_recipe(run.scale, run.faces(), "S1")
        assert run.scenes().manifest["kind"] == "scenes"
        assert torch.equal(scales.training_images(recipe, run.faces()), images_of[recipe.name])
    assert prepared == both
    assert len(kept(tmp_path / "store" / "photographs")) == 4
