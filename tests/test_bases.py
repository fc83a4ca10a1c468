"""What is measured on a basis, against closed forms and waves whose direction is known."""

import numpy as np
import pytest
import torch

from gahb import bases, optimal


def grid(size):
    return np.meshgrid(np.arange(size), np.arange(size), indexing="ij")


def orthonormal(k, *shape, seed=0):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(int(np.prod(shape)), k)))
    return torch.from_numpy(q.T.copy()).view(k, *shape)


@pytest.mark.parametrize("k", [None, 3])
def test_analyse_of_a_projector(k):
    """f(y) = P y with P a projector of rank 3: its basis spans the space, and <x, e_k> are coordinates there."""
    vectors = orthonormal(3, 1, 4, 5)
    projector = (vectors.flatten(1).T @ vectors.flatten(1)).numpy()
    image = torch.from_numpy(np.random.default_rng(2).random((1, 4, 5)))
    found = bases.analyse(optimal.subspace(vectors), image, 0.2, seed=4, k=k)
    noise = np.random.default_rng(4).standard_normal((1, 1, 4, 5), dtype=np.float32)
    np.testing.assert_allclose(found.noisy, image[None].numpy() + 0.2 * noise, atol=1e-7)  # float32 noise
    np.testing.assert_allclose(found.denoised.flatten(), projector @ found.noisy.flatten().numpy(), atol=1e-12)
    restored = found.basis.vectors[:3].flatten(1).T @ found.coefficients[:3]
    np.testing.assert_allclose(restored, projector @ image.flatten().numpy(), atol=1e-10)
    assert len(found.coefficients) == (k or 20)
    assert [tuple(picture.shape) for picture in found.images] == [(4, 5)] * 3


@pytest.mark.parametrize("convert", [list, np.array, torch.tensor])
def test_effective_rank_is_the_sum(convert):
    assert bases.effective_rank(convert([1.0, 0.75, 0.5, -0.25])) == 2.0


@pytest.mark.parametrize(("rank", "fraction"), [(1, 0.09), (1.6, 0.25), (2.4, 0.25), (3, 1.0), (0.2, 0.09)])
def test_preserved_fraction_of_an_image_with_known_coefficients(rank, fraction):
    """Coefficients 3, 4 and sqrt(75): squares 9, 16, 75 of 100."""
    vectors = orthonormal(3, 5, 4)
    image = torch.einsum("k,khw->hw", torch.tensor([3.0, 4.0, 75**0.5], dtype=torch.float64), vectors)
    assert bases.preserved_fraction(image[None], vectors, rank) == pytest.approx(fraction, rel=1e-12)


@pytest.mark.parametrize(("u", "v"), [(0, 0), (1, 0), (0, 2), (3, 4), (8, 8)])
def test_mean_frequency_of_a_pure_cosine(u, v):
    rows, columns = grid(16)
    wave = np.cos(2 * np.pi * (u * rows + v * columns) / 16 + 0.3)
    expected = np.hypot(u, v) / 16  # cycles per pixel
    np.testing.assert_allclose(bases.mean_frequency(np.stack([wave, 5 * wave])), [expected] * 2, atol=1e-12)


def test_mean_frequency_weighs_by_power():
    rows, columns = grid(12)
    waves = np.cos(2 * np.pi * rows / 12) + 2 * np.cos(2 * np.pi * 3 * columns / 12)
    assert bases.mean_frequency(torch.from_numpy(waves)[None])[0] == pytest.approx((1 * 1 + 4 * 3) / 5 / 12, rel=1e-12)


def stripes(angle, size=48, period=8):
    """A wave of this period whose direction of variation has this angle to the rows."""
    rows, columns = grid(size)
    return np.sin(2 * np.pi * (np.cos(angle) * rows + np.sin(angle) * columns) / period)


@pytest.mark.parametrize("angle", [0, np.pi / 2, np.pi / 6, 2.3])
def test_contour_anisotropy_of_products_of_waves(angle):
    """cos(a s + 1) cos(b t), s across and t along the stripes: (a / b)^2 for slow waves; their edges give 15 %."""
    image, rows, columns = stripes(angle), *grid(48)
    s = np.cos(angle) * rows + np.sin(angle) * columns
    t = -np.sin(angle) * rows + np.cos(angle) * columns
    for a, b in ((0.4, 0.1), (0.1, 0.4), (0.3, 0.3)):
        vectors = np.stack([np.cos(a * s + shift) * np.cos(b * t + shift / 3) for shift in range(40)])
        expected = (np.sin(a) / np.sin(b)) ** 2 if angle in (0, np.pi / 2) else (a / b) ** 2  # central differences
        assert bases.contour_anisotropy(vectors, image) == pytest.approx(expected, rel=0.15)


def test_contour_anisotropy_of_waves_across_along_and_of_a_flat_image():
    image, rows, columns = stripes(0), *grid(48)
    assert bases.contour_anisotropy(np.cos(0.3 * rows)[None], image) == np.inf
    assert bases.contour_anisotropy(np.cos(0.3 * columns)[None], image) == 0
    assert np.isnan(bases.contour_anisotropy(np.cos(0.3 * rows)[None], np.ones((48, 48))))


def test_contour_mask_of_a_step_is_its_two_sides():
    image = (np.arange(20) >= 10) * np.ones((20, 1))
    expected = np.zeros((20, 20), dtype=bool)
    expected[:, 9:11] = True
    np.testing.assert_array_equal(bases.contour_mask(image, fraction=0.1), expected)
    np.testing.assert_array_equal(bases.contour_mask(torch.from_numpy(image.T.copy()), fraction=0.1), expected.T)


def test_participation_ratio_of_even_localized_and_absent_vectors():
    mask = np.zeros((5, 6), dtype=bool)
    mask[1:3, 1:5] = True  # n = 8
    even, delta, half, outside = np.zeros((4, 5, 6))
    even[mask] = np.array([1, -1] * 4) / 8**0.5
    delta[1, 1] = 1
    half[1, 1:5] = 0.5  # evenly over 4 of 8
    outside[4, 0] = 1
    for vectors, expected in (
        ([even], 1),
        ([delta], 1 / 8),
        ([half], 1 / 2),
        ([even, delta, outside], (1 + 1 / 8) / 2),
    ):
        assert bases.participation_ratio(np.stack(vectors), mask) == pytest.approx(expected, rel=1e-12)
    assert np.isnan(bases.participation_ratio(outside[None], mask))


@pytest.mark.parametrize("angle", [0.0, 0.2, 1.0, np.pi / 2])
def test_subspace_cosine_of_planes_at_a_known_angle(angle):
    e = orthonormal(3, 4, 5)
    turned = torch.stack([2 * e[0] + e[1], np.cos(angle) * e[1] + np.sin(angle) * e[2] + 3 * e[0]])
    first, second = torch.stack([e[0], e[1]]), torch.stack([e[0], turned[1]])
    assert bases.subspace_cosine(first, second) == pytest.approx(np.cos(angle), abs=1e-7)
    assert bases.subspace_cosine(second.float(), first.float()) == pytest.approx(np.cos(angle), abs=1e-5)
    assert bases.subspace_cosine(first, torch.stack([turned[0], e[0]])) == pytest.approx(1, abs=1e-7)


def test_energy_in_span_of_vectors_inside_outside_and_at_an_angle():
    e = orthonormal(4, 4, 5)
    span = torch.stack([(e[0] + e[1]) / 2**0.5, (e[0] - e[1]) / 2**0.5])  # of the first two, otherwise written
    assert bases.energy_in_span(e[:2], span) == pytest.approx(1, abs=1e-14)
    assert bases.energy_in_span(e[2:], span) == pytest.approx(0, abs=1e-14)
    tilted = torch.stack([np.cos(0.3) * e[1] + np.sin(0.3) * e[2], e[3]])
    assert bases.energy_in_span(tilted, span) == pytest.approx(np.cos(0.3) ** 2 / 2, rel=1e-12)
    random = np.random.default_rng(3).standard_normal((20_000, 4, 5))
    random /= np.linalg.norm(random, axis=(1, 2), keepdims=True)
    error = (2 * (2 / 20) * (18 / 20) / 22 / 20_000) ** 0.5  # a beta distribution of 1 and 9
    assert bases.energy_in_span(random, span) == pytest.approx(2 / 20, abs=4 * error)
