"""Disks, sinusoids and rays against areas, finite differences, ranks and an independent drawing."""

import numpy as np
import pytest
import torch
from scipy import fft, ndimage, special

from gahb.datasets import (
    disk_at,
    disk_harmonics,
    disk_parameters,
    disk_tangents,
    disks,
    ray,
    ray_image,
    scaled_image,
    sinusoid_tangents,
    sinusoids,
)

SIZE = 24


def contrast(parameters):
    return parameters[:, 3] - parameters[:, 4]


def test_pixel_sums_are_the_analytic_areas():
    parameters = disk_parameters(2000, 40, seed=1).numpy()
    sums = disks(2000, 40, seed=1).double().sum((1, 2, 3)).numpy()
    area = (sums - parameters[:, 4] * 1600) / contrast(parameters)
    clear = np.abs(contrast(parameters)) > 0.05  # the division is by the contrast
    # The grid samples a smooth edge: the area is off by at most 0.05 pixels, of 28 to 1,000.
    assert np.abs(area - np.pi * parameters[:, 2] ** 2)[clear].max() < 0.05
    assert clear.sum() > 1500


def test_disks_of_given_parameters_are_those_that_are_drawn_from_them():
    images, tangents = disk_at(disk_parameters(20, SIZE, seed=9), SIZE)
    assert torch.allclose(images, disks(20, SIZE, seed=9), atol=1e-5)
    assert torch.equal(tangents, disk_tangents(20, SIZE, seed=9))


def test_disks_lie_inside_the_frame_and_fill_the_ranges():
    row, column, radius, foreground, background = disk_parameters(5000, 40, seed=2).numpy().T
    assert 3 <= radius.min() < 3.1 and 17 < radius.max() < 20
    for center in (row, column):  # the frame goes from -0.5 to 39.5; three deviations of the edge fit in
        assert (center - radius).min() > -0.5 + 1.49
        assert (center + radius).max() < 39.5 - 1.49
        assert center.std() > 3
    for level in (foreground, background):
        assert 0 <= level.min() < 0.01 and 0.99 < level.max() <= 1
    images = disks(200, 40, seed=2)
    assert images.shape == (200, 1, 40, 40) and images.dtype == torch.float32
    assert float(images.min()) >= 0 and float(images.max()) <= 1
    corners = images[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]].numpy()
    assert np.abs(corners - background[:200, None]).max() < 1e-6


def test_a_disk_is_the_blurred_indicator_of_a_disk():
    fine = 20  # subpixels along a pixel
    parameters, images = disk_parameters(6, SIZE, seed=3).numpy(), disks(6, SIZE, seed=3)[:, 0].numpy()
    place = (np.arange(SIZE * fine) + 0.5) / fine - 0.5
    for (row, column, radius, foreground, background), image in zip(parameters, images, strict=True):
        sharp = ((place[:, None] - row) ** 2 + (place - column) ** 2 < radius**2).astype(float)
        blurred = ndimage.gaussian_filter(sharp, 0.5 * fine, mode="nearest")
        middle = slice(fine // 2 - 1, None, fine), slice(fine // 2, None, fine)
        centers = (blurred[middle[0]][:, middle[0]] + blurred[middle[1]][:, middle[1]]) / 2
        assert np.abs(background + (foreground - background) * centers - image).max() < 0.01


def draw_disk(row, column, radius, foreground, background):
    y, x = np.mgrid[:SIZE, :SIZE]
    distance = np.hypot(y - row, x - column)
    inside = special.ndtr((np.sqrt(radius**2 - 0.25) - distance) / 0.5)
    return background + (foreground - background) * inside


def central_differences(draw, parameters, step=1e-5):
    shifts = step * np.eye(len(parameters))
    return np.stack([(draw(*(parameters + s)) - draw(*(parameters - s))) / (2 * step) for s in shifts])


def test_disk_tangents_are_finite_differences():
    parameters, tangents = disk_parameters(20, SIZE, seed=4).numpy(), disk_tangents(20, SIZE, seed=4)
    assert tangents.shape == (20, 5, SIZE, SIZE) and tangents.dtype == torch.float32
    for p, image, tangent in zip(parameters, disks(20, SIZE, seed=4)[:, 0], tangents, strict=True):
        assert np.abs(draw_disk(*p) - image.numpy()).max() < 2e-6
        assert np.abs(central_differences(draw_disk, p) - tangent.numpy()).max() < 1e-6


def test_the_five_tangents_of_a_disk_are_independent():
    tangents = disk_tangents(100, SIZE, seed=5).double().flatten(2)
    unit = torch.nn.functional.normalize(tangents, dim=2)
    assert float(torch.linalg.svdvals(unit)[:, -1].min()) > 0.5


def spanned(vectors, basis):
    """Largest part of unit vectors (k, ...) that lies outside the span of an orthonormal basis (m, ...)."""
    flat, basis = (np.asarray(v).reshape(len(v), -1) for v in (vectors, basis))
    return np.linalg.norm(flat - flat @ basis.T @ basis, axis=1).max()


def test_harmonics_of_a_disk_are_orthonormal_and_hold_waves_and_modes():
    """Waves on the edge, drawn here; and modes: of mean 0 in a region and 0 outside, with normal derivative 0."""
    parameters = disk_parameters(3, SIZE, seed=6).numpy()
    i, j = np.mgrid[:SIZE, :SIZE]
    for row, column, radius, *_ in parameters:
        found = disk_harmonics([row, column, radius, 1, 0], SIZE)
        assert found.shape == (2 * 7 + 8 + 4, SIZE, SIZE) and found.dtype == torch.float64
        flat = found.flatten(1).numpy()
        np.testing.assert_allclose(flat @ flat.T, np.eye(26), rtol=0, atol=1e-12)
        point = (i - row) + 1j * (j - column)
        band = np.exp(-((np.abs(point) - radius) ** 2) / 2)
        turns = [(point / np.abs(point)) ** m for m in range(2, 9)]
        waves = np.stack([band * part for turn in turns for part in (turn.real, turn.imag)])
        waves /= np.linalg.norm(waves, axis=(1, 2), keepdims=True)
        assert spanned(waves, found[:14]) < 1e-12  # point is row + i column: cos and sin change places, signs aside
        modes = disk_harmonics([row, column, radius, 1, 0], SIZE, waves=0)
        inside = np.abs(point) <= radius
        for region, part in ((~inside, modes[:8]), (inside, modes[8:])):
            np.testing.assert_allclose(part[:, ~region], 0, atol=1e-14)
            np.testing.assert_allclose(part.sum((1, 2)), 0, atol=1e-10)
        assert spanned(modes, found) < 1e-12


def test_modes_of_a_rectangle_are_cosines():
    """A disk beyond the frame leaves the whole square: the modes are those of the DCT-II, of lowest frequency."""
    n = 12
    found = disk_harmonics([-50.0, -50, 1, 1, 0], n, waves=0, background=8, inside=0).numpy()
    units = np.zeros((8, n, n))
    for unit, frequency in zip(units, [(1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (2, 1), (1, 2), (2, 2)], strict=True):
        unit[frequency] = 1
    cosines = fft.idctn(units, norm="ortho", axes=(1, 2))
    assert spanned(cosines, found) < 1e-10
    assert spanned(cosines[:2], found[:2]) < 1e-10 and spanned(cosines[2:3], found[2:3]) < 1e-10


def test_harmonics_turn_with_the_disk():
    """A quarter turn of a centered disk keeps the span of its waves; a transposition moves the disk."""
    middle = (SIZE - 1) / 2
    waves = disk_harmonics([middle, middle, 6, 1, 0], SIZE, background=0, inside=0)
    assert spanned(torch.rot90(waves, 1, (1, 2)), waves) < 1e-12
    one, other = (disk_harmonics([*center, 5, 1, 0], SIZE) for center in ((9.3, 12.1), (12.1, 9.3)))
    for part in (slice(14), slice(14, 20), slice(22, 24)):
        assert spanned(one.mT[part], other[: part.stop]) < 1e-10
    assert spanned(one[:14], other[:14]) > 0.5


def draw_sinusoid(amplitude, phase):
    y, x = np.mgrid[:SIZE, :SIZE]
    return amplitude * np.cos(2 * np.pi * (y + x) / SIZE + phase)


def test_sinusoids_span_two_dimensions():
    images = sinusoids(300, SIZE, seed=1)
    assert images.shape == (300, 1, SIZE, SIZE) and images.dtype == torch.float32
    assert float(images.abs().max()) <= 1
    values = torch.linalg.svdvals(images.double().flatten(1))
    assert float(values[1] / values[0]) > 0.5 and float(values[2] / values[0]) < 1e-6


def test_sinusoids_are_plane_waves_of_uniform_amplitude_and_phase():
    images = sinusoids(4000, SIZE, seed=2)[:, 0].double().numpy()
    waves = np.fft.fft2(images)[:, 1, 1] * 2 / SIZE**2
    for image, wave in zip(images[:20], waves[:20], strict=True):
        assert np.abs(draw_sinusoid(abs(wave), np.angle(wave)) - image).max() < 1e-6
    # Means of uniform distributions, within four standard errors.
    assert abs(np.abs(waves).mean() - 1 / 2) < 4 / np.sqrt(12 * 4000)
    assert abs(np.exp(1j * np.angle(waves)).mean()) < 4 / np.sqrt(4000)


def test_sinusoid_tangents_are_finite_differences():
    images, tangents = sinusoids(20, SIZE, seed=3)[:, 0].double().numpy(), sinusoid_tangents(20, SIZE, seed=3)
    assert tangents.shape == (20, 2, SIZE, SIZE) and tangents.dtype == torch.float32
    for image, tangent in zip(images, tangents, strict=True):
        wave = np.fft.fft2(image)[1, 1] * 2 / SIZE**2
        p = np.array([abs(wave), np.angle(wave)])
        assert np.abs(central_differences(draw_sinusoid, p) - tangent.numpy()).max() < 1e-6


@pytest.mark.parametrize("batch", [False, True])
def test_scaled_images_lie_on_one_ray(batch):
    image = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(0))
    images = scaled_image(image[None] if batch else image, 2000, seed=1)
    assert images.shape == (2000, 3, 6, 6) and images.dtype == torch.float32
    values = torch.linalg.svdvals(images.double().flatten(1))
    assert float(values[1] / values[0]) < 1e-6
    intensity = (images.double() / image).numpy()
    assert np.ptp(intensity, axis=(1, 2, 3)).max() < 1e-5
    s = intensity.mean((1, 2, 3))
    assert s.min() >= 0 and s.max() <= 1
    assert abs(s.mean() - 1 / 2) < 4 / np.sqrt(12 * 2000)  # four standard errors of the mean
    assert abs((s**2).mean() - 1 / 3) < 4 * np.sqrt(4 / 45 / 2000)


def test_a_ray_is_one_image_times_an_intensity():
    images = ray(500, 16, seed=2)
    assert torch.equal(images, scaled_image(ray_image(16), 500, seed=2))
    assert ray_image(16).shape == (1, 1, 16, 16) and float(ray_image(16).std()) > 0.05
