"""A plain implementation of each thing, written from the paper without regard to speed; `bench.py` compares with it."""

import itertools

import numpy as np
import pywt
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Norm(nn.Module):
    """Bias-free batch normalization in training mode."""

    def __init__(self, channels):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.register_buffer("running_sd", torch.ones(1, channels, 1, 1))

    def forward(self, x):
        sd = torch.sqrt(x.var(dim=(0, 2, 3), keepdim=True, unbiased=False) + 1e-5)
        self.running_sd = 0.9 * self.running_sd + 0.1 * sd.detach()
        return x / sd * self.gain


def network(depth, channels):
    """The paper's BF-CNN; it estimates the noise."""
    layers = [nn.Conv2d(1, channels, 3, padding=1, bias=False), nn.ReLU()]
    for _ in range(depth - 2):
        layers += [nn.Conv2d(channels, channels, 3, padding=1, bias=False), Norm(channels), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(channels, 1, 3, padding=1, bias=False))


def training(images, depth, channels, batch, device="cpu"):
    """A generator that takes one training step for each value."""
    net = network(depth, channels).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    while True:
        for (x,) in DataLoader(TensorDataset(images), batch, shuffle=True, drop_last=True):
            x = x.to(device)
            sigma = torch.rand(len(x), 1, 1, 1, device=device)
            noise = sigma * torch.randn_like(x)
            loss = ((net(x + noise) - noise) ** 2).sum() / len(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield loss.item()


def jacobian_rows(denoiser, y, rows):
    """Some rows of the Jacobian: one backward pass per pixel through one graph."""
    y = y.clone().requires_grad_()
    output = denoiser(y).flatten()
    return torch.stack([torch.autograd.grad(output[i], y, retain_graph=True)[0].flatten() for i in rows])


def samples(denoiser, noise, step_size, sigma_end):
    """Algorithm 1, one image after the other."""
    drawn = []
    with torch.no_grad():
        for x in noise.split(1):
            sigma = float("inf")
            while sigma >= sigma_end:
                s = denoiser(x) - x
                sigma = s.norm() / s.numel() ** 0.5
                x = x + step_size * s
            drawn.append(x)
    return torch.cat(drawn)


def psnr_curve(denoiser, images, sigmas):
    """Mean PSNR at each noise level, one image after the other."""
    curve = []
    with torch.no_grad():
        for sigma in sigmas:
            errors = [((denoiser(x + sigma * torch.randn_like(x)) - x) ** 2).mean() for x in images.split(1)]
            curve.append(float(-10 * torch.stack(errors).mean().log10()))
    return curve


def nearest(images, train):
    """Index of the most similar training image of each image, by cosine similarity."""
    found = []
    for x in images.flatten(1):
        similarity = (train.flatten(1) * x).sum(1) / (train.flatten(1).norm(dim=1) * x.norm())
        found.append(int(similarity.argmax()))
    return torch.tensor(found)


def bandlets(image, sigma, matrices, wavelet="db2", levels=4):
    """An image (size, size) thresholded at 3 sigma in its best bandlet basis, square after square, all directions.

    ``matrices`` holds the Alpert transforms by the side of the squares, the identity first.
    """
    approximation, *details = pywt.wavedec2(image, wavelet, "periodization", levels)
    scales = [tuple(_band(band, 3 * sigma, matrices) for band in scale) for scale in details]
    return pywt.waverec2([approximation, *scales], wavelet, "periodization")


def _band(band, threshold, matrices):
    side, out = min(len(band), max(matrices)), band.copy()
    for top in range(0, len(band), side):
        for left in range(0, len(band), side):
            square = (slice(top, top + side), slice(left, left + side))
            out[square] = _best_square(band[square], threshold, matrices)[1]
    return out


def _best_square(square, threshold, matrices):
    """The least cost over directions and smaller squares, and the thresholded square."""
    half = len(square) // 2
    if half in matrices:
        cost, out = 0, np.empty_like(square)
        for part in itertools.product((slice(half), slice(half, None)), repeat=2):
            more, out[part] = _best_square(square[part], threshold, matrices)
            cost += more
    else:
        cost, out = (np.minimum(square**2, threshold**2)).sum(), np.where(np.abs(square) > threshold, square, 0)
    for matrix in matrices[len(square)][1:]:
        coefficients = matrix @ square.ravel()
        directed = np.minimum(coefficients**2, threshold**2).sum() + threshold**2
        if directed < cost:
            kept = np.where(np.abs(coefficients) > threshold, coefficients, 0)
            cost, out = directed, (matrix.T @ kept).reshape(square.shape)
    return cost, out


def c_alpha(n, size, alpha, seed=0):
    """Algorithm 2, one image after the other."""
    rng, images = np.random.default_rng(seed), []
    k = np.abs(np.fft.fftfreq(size, 1 / size))
    square = k[:, None] ** 2 + k[None, :] ** 2
    k[0], square[0, 0] = 1, 1
    for _ in range(n):
        contour = np.fft.ifft(np.fft.fft(rng.uniform(-1, 1, size)) * k**-alpha).real * size + size / 2
        contour = np.clip(np.round(contour), 0, size)
        fields = []
        for _ in range(2):
            field = np.fft.ifft2(np.fft.fft2(rng.uniform(-1, 1, (size, size))) * square ** (-alpha / 2)).real
            field = (field - field.min()) / (field.max() - field.min())
            fields.append(field * rng.uniform())
        mask = (np.arange(size)[:, None] < contour[None, :]).astype(float)
        mask = (mask + np.roll(mask, 1, 0) + np.roll(mask, 1, 1) + np.roll(mask, (1, 1), (0, 1))) / 4
        images.append(mask * (1 - fields[0]) + (1 - mask) * fields[1])
    return np.stack(images)


def disks(n, size, seed=0, fine=8):
    """Antialiased disks by counting finer pixels, one image after the other."""
    rng, images = np.random.default_rng(seed), []
    for _ in range(n):
        radius = rng.uniform(4, size / 4)
        cy, cx = rng.uniform(radius, size - radius, 2)
        grid = (np.arange(size * fine) + 0.5) / fine
        inside = (grid[:, None] - cy) ** 2 + (grid[None, :] - cx) ** 2 < radius**2
        cover = inside.reshape(size, fine, size, fine).mean((1, 3))
        inner, outer = rng.uniform(0, 1, 2)
        images.append(outer + (inner - outer) * cover)
    return np.stack(images)
