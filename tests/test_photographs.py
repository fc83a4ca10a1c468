"""Photographs against an independent resize, brute force, and the photographs that packages hold."""

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import gray_pictures
from PIL import Image

from gahb.datasets import Photographs, as_float, faces, near_duplicates, photographs, scenes

# --- Crop and resize --------------------------------------------------------------------------------------------------


def prepared(images, size, tmp_path):
    np.save(tmp_path / "faces.npy", images)
    return faces(tmp_path / "faces.npy", size=size, N=1, test_size=1).S1[0, 0].numpy()


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [(218, 178, (9, 29, 169, 189)), (178, 218, (20, 0, 198, 178)), (60, 90, (15, 0, 75, 60)), (50, 50, (0, 0, 50, 50))],
)
def test_central_square_and_antialiased_resize(height, width, box, tmp_path):
    images = gray_pictures(3, height, width)
    images = images // 2 + np.random.default_rng(0).integers(0, 128, images.shape, dtype=np.uint8)  # fine detail
    reference = Image.fromarray(images[0].astype(np.float32)).crop(box).resize((20, 20), Image.BILINEAR)
    difference = prepared(images, 20, tmp_path) - np.asarray(reference) / 255
    assert np.abs(difference).max() < 0.51 / 255 + 1e-5


# --- Near duplicates --------------------------------------------------------------------------------------------------


def brute_force(pixels, threshold):
    vectors = pixels.reshape(len(pixels), -1).astype(float)
    kept = []
    for i, vector in enumerate(vectors):
        if np.ptp(vector) > 0 and all(np.corrcoef(vector, vectors[j])[0, 1] <= threshold for j in kept):
            kept.append(i)
    return [i not in kept for i in range(len(pixels))]


@pytest.mark.parametrize("block", [1, 7, 16, 1000])
def test_blocks_mark_what_brute_force_marks(block, monkeypatch):
    rng = np.random.default_rng(0)
    base = gray_pictures(8, 20, 20).astype(float)
    noisy = base[rng.integers(0, 8, 70)] + rng.normal(0, 12, (70, 20, 20))  # pairs on either side of the threshold
    pixels = noisy.clip(0, 255).astype(np.uint8)
    pixels[[5, 40]] = 77  # without any contrast
    expected = brute_force(pixels, 0.95)
    assert 10 < sum(expected) < 68
    monkeypatch.setattr(photographs, "DUPLICATE_BLOCK", block)
    assert near_duplicates(torch.from_numpy(pixels)[:, None]).tolist() == expected


def test_no_images_have_no_duplicates():
    assert near_duplicates(torch.empty(0, 1, 20, 20, dtype=torch.uint8)).tolist() == []


# --- Parts ------------------------------------------------------------------------------------------------------------


def test_parts_are_disjoint_nested_and_from_opposite_ends(tmp_path):
    tones = gray_pictures(40)
    np.save(tmp_path / "faces.npy", tones)
    data = faces(tmp_path / "faces.npy", size=16, N=12, test_size=6)
    levels = torch.from_numpy(tones)[:, None]
    assert torch.equal(data.part("S1"), levels[:12])
    assert torch.equal(data.part("S2"), levels[-12:].flip(0))
    assert torch.equal(data.part("test"), levels[17:23])
    assert torch.equal(data.part("S2", 5), data.part("S2")[:5])
    small = faces(tmp_path / "faces.npy", size=16, N=5, test_size=6)
    assert torch.equal(small.S1, data.S1[:5]) and torch.equal(small.S2, data.S2[:5])
    for name in ("S1", "S2", "test"):
        part = getattr(data, name)
        assert part.dtype == torch.float32 and float(part.min()) >= 0 and float(part.max()) <= 1
        assert torch.equal((part * 255).round().to(torch.uint8), data.part(name))
    with pytest.raises(ValueError, match="S1 holds 12 images, 13 were asked for"):
        data.part("S1", 13)


def test_without_training_sets_the_middle_is_the_test_set(tmp_path):
    np.save(tmp_path / "faces.npy", gray_pictures(5))
    data = faces(tmp_path / "faces.npy", size=16, N=0, test_size=3)
    assert torch.equal(data.part("test"), torch.from_numpy(gray_pictures(5))[1:4, None])
    assert data.manifest["parts"] == {"S1": [], "S2": [], "test": ["1", "2", "3"]}
    for use in (lambda: data.S1, lambda: data.S2, lambda: data.part("S1", 1)):
        with pytest.raises(ValueError, match=r"there is no S[12]: with N = 0 .* a test set alone; give a larger N"):
            use()
    assert faces(size=20, N=0, test_size=90).test.shape == (90, 1, 20, 20)  # of the hundred inside scikit-image


def test_the_manifest_has_a_checksum_that_one_pixel_changes(tmp_path):
    tones = gray_pictures(4)
    np.save(tmp_path / "a.npy", tones)
    data, again = (faces(tmp_path / "a.npy", size=16, N=1, test_size=1) for _ in range(2))
    assert data.manifest == again.manifest
    assert data.manifest["sha256"] == hashlib.sha256(tones.tobytes()).hexdigest()
    tones[1, 3, 3] ^= 1
    np.save(tmp_path / "a.npy", tones)
    assert faces(tmp_path / "a.npy", size=16, N=1, test_size=1).manifest["sha256"] != data.manifest["sha256"]
    assert data.manifest["parts"] == {"S1": ["0"], "S2": ["3"], "test": ["1"]}
    assert json.loads(json.dumps(data.manifest)) == data.manifest


def test_numbers_of_numpy_are_numbers(tmp_path):
    whole = faces(size=np.int64(20), N=np.int64(3), test_size=np.int32(2), cache=tmp_path)
    assert torch.equal(whole.pixels, faces(size=20, N=3, test_size=2).pixels)


def test_as_float():
    assert as_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])


# --- Packages ---------------------------------------------------------------------------------------------------------


def test_the_hundred_faces_and_patches_inside_scikit_image():
    from skimage.data import lfw_subset

    known = lfw_subset()
    for read, images in ((faces, known[:100]), (scenes, known[100:])):
        data = read(size=25, N=40, test_size=10)
        assert isinstance(data, Photographs) and data.manifest["found"] == 100
        for name, position in (("S1", 0), ("S2", 39), ("test", 5)):
            expected = images[int(data.manifest["parts"][name][position])]
            assert np.abs(getattr(data, name)[position, 0].numpy() - expected).max() < 0.51 / 255


LFW = "sklearn.datasets.fetch_lfw_people"


def test_labeled_faces_in_the_wild_are_downloaded_if_more_are_needed(monkeypatch):
    images = gray_pictures(130, 125, 125) / 255

    def fetch(**arguments):
        assert arguments["slice_"] is None and arguments["funneled"]  # the whole square photographs
        return SimpleNamespace(images=images.astype(np.float32))

    monkeypatch.setattr(LFW, fetch)
    for data in (faces(size=20, N=50, test_size=10), faces("lfw", size=20, N=2, test_size=1)):
        assert data.manifest["found"] == 130 and data.manifest["source"] == "Labeled Faces in the Wild"


def test_lfw_is_not_downloaded_if_it_is_too_small(monkeypatch):
    monkeypatch.setattr(LFW, lambda **how: pytest.fail("downloaded"))
    with pytest.raises(
        ValueError, match="Labeled Faces in the Wild has 13,233 images, and 13,234 are needed; give a f"
    ):
        faces("lfw", size=20, N=6_000, test_size=1_234)


@pytest.mark.parametrize("source", [None, "lfw"])
def test_without_a_network_the_error_says_what_to_give(source, monkeypatch):
    def fetch(**arguments):
        raise OSError("no network")

    monkeypatch.setattr(LFW, fetch)
    with pytest.raises(ValueError, match=r"not be downloaded \(no network\).*Give a folder of faces or an array"):
        faces(source, size=20, N=60, test_size=10)


def test_first_of_duplicates_names_the_image_that_is_repeated():
    grays = torch.arange(256, dtype=torch.uint8)[:, None, None, None].expand(256, 1, 24, 24)  # no contrast at any gray
    images = torch.from_numpy(gray_pictures(5, 24, 24))[:, None]
    mixed = torch.cat([images[:3], grays, images[[1, 4, 0, 1]]])
    assert photographs.first_of_duplicates(mixed).tolist() == [0, 1, 2, *256 * [-1], 1, 260, 0, 1]
