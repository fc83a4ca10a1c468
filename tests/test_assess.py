"""Copies of training images: planted ones, brute force, and the chance level of the rule."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

import gahb
from gahb.assess import assess, excess, memorized, similarities
from gahb.datasets import c_alpha, disks
from gahb.metrics import Nearest

SIZE = 24


def jpeg(images, quality):
    """Images written and read as JPEG."""
    found = []
    for image in images[:, 0]:
        buffer = io.BytesIO()
        Image.fromarray((image.numpy() * 255).round().astype(np.uint8)).save(buffer, "JPEG", quality=quality)
        found.append(np.asarray(Image.open(buffer), dtype=np.float32)[None] / 255)
    return torch.from_numpy(np.stack(found))


@pytest.fixture(scope="module")
def sets():
    """Training, unseen and new images."""
    train, unseen, new = c_alpha(3000, SIZE, 2.0).split(1000)
    return train, unseen, new


PLANTED = {
    "exact": lambda x: x,
    "brightened": lambda x: (1.2 * x).clamp(0, 1),
    "darkened": lambda x: 0.7 * x,
    "a tenth of white added": lambda x: (x + 0.1).clamp(0, 1),
    "JPEG of quality 50": lambda x: jpeg(x, 50),
    "mirrored": lambda x: x.flip(-1),
    "mirrored, darkened, JPEG of quality 80": lambda x: jpeg(0.8 * x.flip(-1), 80),
}


def test_planted_copies_are_found_among_a_thousand_samples_and_nothing_else(sets):
    train, unseen, new = sets
    copies = [change(train[20 * i : 20 * i + 10]) for i, change in enumerate(PLANTED.values())]
    planted = torch.cat([*copies, new])[:1000]
    found = assess(planted, train, unseen, progress=False)
    summary = found.summary()
    assert found.copied.nonzero().flatten().tolist() == list(range(10 * len(PLANTED)))
    assert found.found.index[:70].tolist() == [20 * i + k for i in range(len(PLANTED)) for k in range(10)]
    assert found.mirrored[:70].tolist() == 50 * [False] + 20 * [True]
    assert (summary["copies"]["count"], summary["copies"]["share"]) == (70, 0.07)
    assert (summary["false_alarms"]["count"], summary["false_alarms"]["of"]) == (0, 1000)
    assert set(found.closest(10)) <= set(range(70))


def test_mirrored_copies_are_found_only_if_asked_for(sets):
    train, *_ = sets
    assert assess(train[:20].flip(-1), train, progress=False).copied.all()
    assert not assess(train[:20].flip(-1), train, mirrored=False, progress=False).copied.any()


def test_damaged_copies_are_suspect_beside_unseen_images(sets):
    train, unseen, new = sets
    noise = 0.07 * torch.randn(20, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    found = assess(torch.cat([train[:20] + noise, new[:480]]), train, unseen, progress=False)
    assert not found.copied.any()
    assert found.suspect[:20].all()
    assert found.suspect[20:].sum() <= 5  # a half is expected
    assert torch.equal(found.suspect, found.found.distance_ratio < found.null.distance_ratio.min())


def test_images_that_the_training_set_holds_twice(sets):
    """The second nearest is the same picture, which hides its copies from the plain ratio."""
    train, *_ = sets
    doubled = torch.cat([train, jpeg(train[:30], 95), jpeg(0.9 * train[:20], 95)])
    samples = jpeg(train[:30], 70)
    found = assess(samples, doubled, progress=False)
    assert found.copied.all()
    assert memorized(gahb.nearest(samples, doubled, centered=True)).sum() < 5
    assert found.repeated() == [(1000 + i, i) for i in range(30)] + [(1030 + i, i) for i in range(20)]
    assert found.summary()["near_duplicates"] == 50


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_chance_of_a_false_alarm_is_three_to_the_minus_k(k):
    """Points on a sphere of k dimensions: the volumes within the two smallest distances have a uniform ratio."""
    points = torch.randn(8000, k + 1, 1, 1, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
    alarms = memorized(gahb.nearest(points[:4000], points[4000:])).double()
    assert float(alarms.mean()) == pytest.approx(3.0**-k, abs=4 * float(alarms.std()) / 4000**0.5)


def test_disks_have_false_alarms_and_unseen_images_show_them():
    train, unseen, new = disks(3000, 20).split(1000)
    summary = assess(new, train, unseen, progress=False).summary()
    assert summary["copies"]["count"] > 10
    low, high = summary["false_alarms"]["interval"]
    assert low < summary["copies"]["share"] < high


def cosines(a, b, centered):
    """All cosines, in long doubles."""
    a, b = (x.flatten(1).numpy().astype(np.longdouble) for x in (a, b))
    if centered:
        a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    return (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T


@pytest.mark.parametrize(("seen", "unseen"), [(60, 60), (60, 25), (25, 60)])
def test_similarities_and_their_excess_are_those_of_brute_force(sets, seen, unseen):
    train, other, new = sets[0][:seen], sets[1][:unseen], sets[2]
    samples, twin = new[:30], new[30:60]
    table = similarities(samples, train, other, twin)
    few = min(seen, unseen)
    spaced = {n: np.linspace(0, n - 1, few).round().astype(int) for n in (seen, unseen)}
    for suffix, centered in (("", False), ("_centered", True)):
        to_train, to_other = cosines(samples, train, centered), cosines(samples, other, centered)
        expected = {
            "nearest": to_train.max(1),
            "unseen": to_other[:, spaced[unseen]].max(1),
            "pair": np.diag(cosines(samples, twin, centered)),
            "other_noise": np.diag(np.roll(cosines(samples, samples, centered), 1, 1)),
        }
        for key, values in expected.items():
            np.testing.assert_allclose(table[key + suffix], values.astype(float), rtol=0, atol=1e-6)
        difference = to_train[:, spaced[seen]].max(1) - expected["unseen"]
        np.testing.assert_allclose(excess(table, suffix), difference.astype(float), rtol=0, atol=1e-6)
    assert ("seen" in table) == (seen > unseen)


def test_the_excess_of_copies_and_of_new_images(sets):
    train, unseen, new = sets
    same = assess(new[:200], train, unseen, progress=False).summary()["similarity"]["excess_centered"]
    copies = assess(0.5 * train[:200], train, unseen, progress=False).summary()["similarity"]["excess_centered"]
    assert same["interval"][0] < 0 < same["interval"][1]
    assert copies["interval"][0] > 0.05


def test_a_twin_agrees_only_beyond_both_nulls(sets):
    train, _, new = sets
    samples = new[:100]
    near = samples + 0.02 * torch.randn(samples.shape, generator=torch.Generator().manual_seed(0))
    agree = assess(samples, train, twin=near, progress=False).summary()["twin"]
    other = assess(samples, train, twin=new[100:200], progress=False).summary()["twin"]
    copies = assess(train[:100], train, twin=train[:100] + 0.1 * near, progress=False).summary()["twin"]
    assert agree["plain"]["agree"] and agree["centered"]["agree"]
    assert not other["plain"]["agree"] and not other["centered"]["agree"]
    assert not copies["centered"]["agree"]  # two models that copy the same image agree for that reason
    limit = np.quantile(np.diag(np.roll(cosines(samples, samples, True), 1, 1)).astype(float), 0.95)
    assert agree["centered"]["other_noise_95"] == pytest.approx(limit, abs=1e-6)


def test_features_are_compared_by_their_cosine(sets):
    train, unseen, new = sets
    samples = torch.cat([train[:5], train[5:8].flip(-1), new[:20]])

    def features(images):
        assert images.is_floating_point() and images.max() <= 1
        return torch.nn.functional.avg_pool2d(images, 4).flatten(1)

    found = assess((samples * 255).to(torch.uint8), train, unseen, new[:28], features, progress=False)
    assert found.copied[:8].all()
    assert set(found.table) == {"pair", "nearest", "unseen", "other_noise"}
    plain = cosines(features(samples), features(train), False).max(1)
    np.testing.assert_allclose(found.table["nearest"], plain.astype(float), rtol=0, atol=1e-3)  # 8 bits


def test_colours_tell_images_apart_that_have_the_same_grays(sets):
    colours = torch.rand(100, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = assess(torch.cat([colours[:3], colours[3:6].roll(1, 1)]), colours, progress=False)
    assert found.copied.tolist() == 3 * [True] + 3 * [False]


def test_8_bit_images_are_the_same_images(sets):
    train, unseen, new = ((x[:50] * 255).round().to(torch.uint8) for x in sets)
    first = assess(torch.cat([train[:3], new]), train, unseen, progress=False)
    second = assess(torch.cat([train[:3], new]) / 255, train / 255, unseen / 255, progress=False)
    np.testing.assert_allclose(first.found.distance_ratio, second.found.distance_ratio, rtol=0, atol=1e-6)
    assert (first.summary()["copies"], first.repeated()) == (second.summary()["copies"], second.repeated())


def test_one_sample(sets):
    train, unseen, _ = sets
    found = assess(train[:1], train, unseen, train[:1], progress=False)
    summary = found.summary()
    low, high = summary["copies"]["interval"]
    assert (summary["copies"]["count"], low, high) == (1, pytest.approx(0.025), 1)
    assert summary["false_alarms"]["of"] == 1
    assert "other_noise" not in summary["similarity"]
    assert summary["twin"]["plain"]["agree"] is None
    assert summary["similarity"]["nearest"] == {"median": pytest.approx(1), "interval": None}


@pytest.mark.parametrize("copies", [1, 12])
def test_one_picture_is_too_few_for_the_rule(sets, copies):
    train, unseen, new = sets
    found = assess(torch.cat([train[:1], new[:4]]), train[:1].repeat(copies, 1, 1, 1), unseen, progress=False)
    assert not found.decided and not found.copied.any() and not found.suspect.any()
    assert torch.isnan(found.found.distance_ratio).all()
    summary = found.summary()
    assert summary["copies"] is summary["false_alarms"] is summary["suspects"] is None
    assert float(found.found.similarity[0]) == pytest.approx(1)


def test_blank_images_are_no_copies(sets):
    train, *_ = sets
    blank = torch.full((2, 1, SIZE, SIZE), 0.5)
    found = assess(torch.cat([blank, train[:1]]), torch.cat([train, blank]), progress=False)
    assert found.copied.tolist() == [False, False, True]
    assert found.repeated() == []


def test_groups_of_any_size_count_as_one_image(sets):
    """The second nearest of another group, by brute force, where a group is larger than any shortlist."""
    train, _, new = sets
    train = torch.cat([train[:12] + 1e-3 * k * new[:12] for k in range(25)])
    groups = torch.arange(12).repeat(25)
    images = 0.999 * train[:12] + 1e-3 * new[12:24]
    found = gahb.nearest(images, train, centered=True, block=64, groups=groups)
    assert found.index.remainder(12).tolist() == list(range(12))
    a, b = (x.flatten(1).numpy().astype(np.longdouble) for x in (images, train))
    a, b = (x - x.mean(1, keepdims=True) for x in (a, b))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    distances = np.linalg.norm(a[:, None] - b[None], axis=2).reshape(12, 25, 12).min(1)  # to the nearest of each group
    own = np.diag(distances)
    others = np.where(np.eye(12, dtype=bool), np.inf, distances).min(1)
    np.testing.assert_allclose(found.distance_ratio, (own / others).astype(float), rtol=1e-5)


def test_memorized_is_a_strict_threshold():
    ratio = torch.tensor([0.2, 1 / 3, 0.5, torch.nan])
    found = Nearest(torch.zeros(4, dtype=torch.long), ratio, ratio)
    assert memorized(found).tolist() == [True, False, False, False]
    assert memorized(found, 0.6).tolist() == [True, True, True, False]


BAD = torch.rand(3, 1, 6, 6)
HOLE = BAD.clone()
HOLE[0, 0, 0, 0] = torch.nan


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: assess(HOLE, BAD), "samples must be finite, got NaN"),
        (lambda: assess(BAD, HOLE), "train must be finite, got NaN"),
        (lambda: assess(BAD, BAD, HOLE), "unseen must be finite, got NaN"),
        (lambda: assess(BAD * 255, BAD), "samples must hold intensities in .0, 1.*divide images of 0 to 255 by 255"),
        (lambda: assess(BAD[:0], BAD), "samples must not be empty"),
        (lambda: assess(BAD[..., 1:], BAD), r"train must hold images of the size of the samples, \(1, 6, 5\), got"),
        (lambda: assess(BAD, BAD, twin=BAD[:2]), "twin must hold a sample for each of the 3 samples.*got 2"),
        (lambda: assess(BAD, BAD, features=lambda x: x), r"features must return a tensor \(3, F\).*got \(3, 1, 6, 6\)"),
        (lambda: assess(BAD, BAD, features=lambda x: x.flatten(1).tolist()), "features must return.*got list"),
        (lambda: assess(BAD, BAD, features=lambda x: x.flatten(1) * torch.nan), "must be finite, got NaN"),
        (lambda: excess(similarities(BAD, BAD)), "the excess needs unseen images"),
        (lambda: gahb.nearest(BAD, BAD, groups=torch.arange(2)), "groups must have a number for each of 3.*got 2"),
    ],
)
def test_bad_input_gets_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
