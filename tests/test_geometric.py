"""C-alpha images against Algorithm 2 of the paper, written out in plain loops, and against their exponents."""

import numpy as np
import pytest
import torch

from gahb.datasets import backgrounds, c_alpha, contours


def algorithm_2(u, size, alpha, beta):
    """One image from its uniform numbers: contour, two backgrounds, their ranges u and v, and a coin."""
    u = u.astype(float)
    contour = np.rint(draw_contour(u[:size], alpha))
    fields = (2 * u[size:-3] - 1).reshape(2, size, size)
    ranges = [(u[-3], 1), (0, u[-2])]
    if u[-1] < 0.5:
        ranges.reverse()
    drawn = [draw_background(field, beta) for field in fields]
    below, above = (low + (high - low) * unit for unit, (low, high) in zip(drawn, ranges, strict=True))
    mask = np.array([[y > contour[x] for x in range(size)] for y in range(size)], dtype=float)
    image = np.empty((size, size))
    for y in range(size):
        for x in range(size):
            down, right = min(y + 1, size - 1), min(x + 1, size - 1)
            m = (mask[y, x] + mask[down, x] + mask[y, right] + mask[down, right]) / 4
            image[y, x] = m * below[y, x] + (1 - m) * above[y, x]
    return image


def draw_contour(uniform, alpha):
    size = len(uniform)
    spectrum = np.fft.fft(2 * uniform - 1)
    for i in range(size):
        spectrum[i] *= max(min(i, size - i), 1) ** -alpha
    return np.fft.ifft(spectrum).real * size + size / 2


def draw_background(field, beta):
    size = len(field)
    spectrum = np.fft.fft2(field)
    for i in range(size):
        for j in range(size):
            squared = min(i, size - i) ** 2 + min(j, size - j) ** 2
            spectrum[i, j] *= max(squared, 1) ** (-beta / 2)
    drawn = np.fft.ifft2(spectrum).real
    return (drawn - drawn.min()) / (drawn.max() - drawn.min())


def uniforms(n, size, seed):
    return np.random.default_rng(seed).random((n, size + 2 * size**2 + 3), dtype=np.float32)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (2.0, 2.0), (4.0, 4.0), (1.0, 4.0), (4.0, 1.0)])
def test_images_are_those_of_algorithm_2(alpha, beta):
    images = c_alpha(8, 16, alpha, beta, seed=5)
    for image, u in zip(images, uniforms(8, 16, 5), strict=True):
        assert np.abs(image[0].numpy() - algorithm_2(u, 16, alpha, beta)).max() < 1e-6


def test_beta_left_out_is_alpha():
    assert torch.equal(c_alpha(3, 12, 2.5, seed=1), c_alpha(3, 12, 2.5, 2.5, seed=1))


def exponent(power, frequency):
    """Slope of log mean power over log frequency, halved: minus the exponent of the amplitude."""
    return -np.polyfit(np.log(frequency), np.log(power), 1)[0] / 2


@pytest.mark.parametrize("alpha", [1.0, 2.0, 4.0])
def test_contour_spectrum_falls_with_alpha(alpha):
    rows = contours(4000, 40, alpha, seed=2).numpy()
    power = (np.abs(np.fft.rfft(rows)) ** 2).mean(0)[1:-1]
    # The mean of 4000 powers is known to 1.6 %, the exponent to 0.003.
    assert exponent(power, np.arange(1, 20)) == pytest.approx(alpha, abs=0.015)


@pytest.mark.parametrize("beta", [1.0, 2.0, 4.0])
def test_background_spectrum_falls_with_beta(beta):
    fields = backgrounds(400, 32, beta, seed=2).double().numpy()
    power = (np.abs(np.fft.fft2(fields)) ** 2).mean((0, 1))
    k = np.abs(np.fft.fftfreq(32, 1 / 32))
    radius = np.hypot(k[:, None], k)
    assert exponent(power[radius > 0], radius[radius > 0]) == pytest.approx(beta, abs=0.015)


def test_a_contour_that_leaves_the_frame_is_cut_and_does_not_wrap():
    n, size, alpha, seed = 400, 16, 1.0, 6
    rows = contours(n, size, alpha, seed)
    over, under = (rows > size).any(1), (rows < -1).any(1)
    assert over.any() and under.any()
    images, u = c_alpha(n, size, alpha, seed=seed), uniforms(n, size, seed)
    for i in [*over.nonzero()[:3, 0].tolist(), *under.nonzero()[:3, 0].tolist()]:
        assert np.abs(images[i, 0].numpy() - algorithm_2(u[i], size, alpha, alpha)).max() < 1e-6


@pytest.mark.parametrize("alpha", [0.5, 1.0, 6.0])
def test_intensities_lie_in_the_unit_interval(alpha):
    images = c_alpha(300, 20, alpha, seed=7)
    assert images.shape == (300, 1, 20, 20) and images.dtype == torch.float32
    assert float(images.min()) >= 0 and float(images.max()) <= 1
    assert float(images.min()) < 0.01 and float(images.max()) > 0.99  # and fill it
