"""Sets of photographs as they are distributed: CelebA, CelebA-HQ, LSUN; read whole, in the order of their names."""

import io
import os
import sys
import zipfile

import numpy as np
import pytest
import torch
from helpers import PAGE, fill, gray, picture
from PIL import Image

from gahb.datasets import faces, scenes

ALIGNED = [f"{i:06}.jpg" for i in range(1, 8)]


def order(manifest):
    """Names in the order of the list, of a set in which N = 2 and test_size = n - 4."""
    parts = manifest["parts"]
    return [*parts["S1"], *parts["test"], *reversed(parts["S2"])]


def celeba(root, images, partition):
    fill(root / images, ALIGNED, height=218, width=178)
    (root / partition).parent.mkdir(parents=True, exist_ok=True)
    (root / partition).write_text("".join(f"{name} 0\n" for name in ALIGNED))


@pytest.mark.parametrize(
    ("images", "partition"),
    [
        ("img_align_celeba/img_align_celeba", "list_eval_partition.csv"),  # Kaggle
        ("celeba/img_align_celeba", "celeba/list_eval_partition.txt"),  # torchvision
    ],
)
def test_celeba_as_kaggle_and_torchvision_lay_it_out(images, partition, tmp_path):
    celeba(tmp_path, images, partition)
    with zipfile.ZipFile(tmp_path / "img_align_celeba.zip", "w") as archive:  # left beside what was unpacked
        archive.writestr("img_align_celeba/000001.jpg", "x")
    folder = tmp_path / images
    (folder / "._000001.jpg").write_bytes(b"\0\5\x16\7")  # as macOS adds them
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "000001-checkpoint.jpg").write_bytes((folder / ALIGNED[0]).read_bytes())
    data = faces(tmp_path, size=20, N=2, test_size=3)
    assert order(data.manifest) == [f"{images}/{name}" for name in ALIGNED] and data.manifest["found"] == 7
    levels = Image.fromarray(np.asarray(Image.open(folder / ALIGNED[0]), dtype=np.float32).mean(-1))
    central = np.asarray(levels.crop((9, 29, 169, 189)).resize((20, 20), Image.BILINEAR)) / 255
    assert np.abs(data.S1[0, 0].numpy() - central).max() < 0.51 / 255 + 1e-5
    assert torch.equal(data.pixels, faces(folder, size=20, N=2, test_size=3).pixels)


def test_celeba_hq_is_read_without_its_masks(tmp_path):
    root = fill(tmp_path / "CelebAMask-HQ", [f"CelebA-HQ-img/{i}.jpg" for i in (0, 1, 2, 10, 11)])
    fill(root, [f"CelebAMask-HQ-mask-anno/0/0000{i}_hair.png" for i in range(20, 25)])
    manifest = faces(root, size=20, N=2, test_size=1).manifest
    assert order(manifest) == [f"CelebA-HQ-img/{i}.jpg" for i in (0, 1, 10, 11, 2)]


@pytest.mark.parametrize(
    "names",
    [
        ["train/female/3.jpg", "train/male/1.jpg", "val/female/0.jpg", "val/male/2.jpg", "val/male/4.jpg"],
        [f"bedroom/{a}/{b}/{a}{b}5c.webp" for a in "0f" for b in "0af"],
    ],
    ids=["CelebA-HQ", "LSUN"],
)
def test_sets_in_folders(names, tmp_path):
    fill(tmp_path, names[::-1], height=40, width=60)
    assert order(scenes(tmp_path, size=20, N=2, test_size=len(names) - 4).manifest) == names


# --- LMDB -------------------------------------------------------------------------------------------------------------

KEYS = [b"00a1", b"0f22", b"10", b"7c", b"9", b"\xff"]  # as LMDB sorts them


def export(folder, suffix="webp", extra=()):
    """An LMDB export of one picture a key, written out of order."""
    lmdb = pytest.importorskip("lmdb", reason="lmdb is not installed")
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=2**22) as environment, environment.begin(write=True) as transaction:
        for seed in (3, 0, 5, 1, 4, 2):
            file = io.BytesIO()
            Image.fromarray(picture(seed)).save(file, format=suffix, lossless=True, quality=98, subsampling=0)
            transaction.put(KEYS[seed], file.getvalue())
        for key, value in extra:
            transaction.put(key, value)
    return folder


@pytest.mark.parametrize(("suffix", "tolerance"), [("webp", 0.51), ("png", 0.51), ("jpeg", 6)])
def test_lsun_as_an_lmdb_export(suffix, tolerance, tmp_path):
    folder = export(tmp_path / "lsun" / "bedroom_val_lmdb", suffix)
    data = scenes(folder, size=40, N=2, test_size=2)
    assert order(data.manifest) == ["00a1", "0f22", "10", "7c", "9", "\\xff"]
    assert data.manifest["source"] == "LMDB export bedroom_val_lmdb"
    expected = np.stack([gray(picture(seed)) for seed in range(6)])
    assert np.abs(data.pixels[:, 0].numpy() - expected * 255).max() < tolerance
    for same in (tmp_path / "lsun", folder / "data.mdb"):  # the folder above, the file itself
        assert scenes(same, size=40, N=2, test_size=2).manifest == data.manifest


def test_entries_that_are_not_images_are_named(tmp_path):
    extra = [(b"11", b""), (b"12", PAGE.encode()), (b"13", b"pickled?")]
    manifest = scenes(export(tmp_path / "export", extra=extra), size=20, N=2, test_size=2).manifest
    assert manifest["unreadable"] == ["11 (empty)", "12 (a web page)", "13 (text that begins with 'pickled?')"]
    assert manifest["found"] == 9 and manifest["read"] == 6


def test_an_export_is_kept_and_read_again_if_it_changed(tmp_path, monkeypatch):
    folder, cache = export(tmp_path / "export"), tmp_path / "cache"
    first = scenes(folder, size=20, N=2, test_size=2, cache=cache)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "lmdb", None)
        assert torch.equal(scenes(folder, size=20, N=2, test_size=2, cache=cache).pixels, first.pixels)
    import lmdb

    with lmdb.open(str(folder), map_size=2**22) as environment, environment.begin(write=True) as transaction:
        transaction.delete(KEYS[0])
    assert order(scenes(folder, size=20, N=2, test_size=1, cache=cache).manifest)[0] == "0f22"
    with pytest.raises(ValueError, match="has 5 usable photographs"):
        scenes(folder, size=20, N=2, test_size=2, cache=cache)


@pytest.mark.parametrize("fraction", [0.9, 0.5, 0.2, 0.02])
def test_a_truncated_export_is_refused_and_does_not_end_the_process(fraction, tmp_path):
    file = export(tmp_path / "lsun") / "data.mdb"
    os.truncate(file, int(fraction * file.stat().st_size))
    with pytest.raises(ValueError, match=r"LMDB export lsun (is truncated; copy|could not be read .*; )"):
        scenes(tmp_path / "lsun", size=20, N=2, test_size=1)


def test_without_the_package_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    (tmp_path / "data.mdb").write_bytes(b"")
    with pytest.raises(ValueError, match="needs the package lmdb to be read: pip install lmdb"):
        scenes(tmp_path)


def test_damaged_and_several_exports_are_refused(tmp_path):
    pytest.importorskip("lmdb", reason="lmdb is not installed")
    for name in ("bedroom_train_lmdb", "bedroom_val_lmdb"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.mdb").write_bytes(b"no database" * 2000)
    with pytest.raises(ValueError, match="several LMDB exports: bedroom_train_lmdb, bedroom_val_lmdb; give one"):
        scenes(tmp_path)
    with pytest.raises(ValueError, match=r"bedroom_val_lmdb could not be read \(.*\); export it again"):
        scenes(tmp_path / "bedroom_val_lmdb")
