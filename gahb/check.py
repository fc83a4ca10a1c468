"""What this installation computes, held against truths that gahb does not compute.

``python -m gahb.check`` prints one row a routine: the truth, the tolerance, and the deviation measured now.
Small and fast; the test suite goes further.
"""

import sys
import time
from typing import NamedTuple

import numpy as np
import scipy.special
import scipy.stats
import torch

from gahb import bases, datasets, metrics, optimal, statistics, thresholding
from gahb.denoisers import BFCNN, UNet
from gahb.jacobian import adaptive_basis, jacobian
from gahb.sampling import gaussian_noise, sample
from gahb.training import train

SHAPE, D, SIGMA = (1, 3, 3), 9, 0.3


class Row(NamedTuple):
    """One line of the table: ``measured`` is a deviation from ``truth``, at most ``tolerance`` if all is well."""

    what: str
    truth: str
    tolerance: float
    measured: float
    note: str = ""

    @property
    def ok(self):
        return bool(self.measured <= self.tolerance)  # NaN is not


def check():
    """Measure each row.

    Yields
    ------
    Row
        One at a time; a routine that raises gives an infinite deviation and its error as ``note``.
    """
    for what, truth, tolerance, measure in ROWS:
        try:
            yield Row(what, truth, tolerance, float(measure()))
        except Exception as error:  # a broken routine is one row, not the end of the table
            yield Row(what, truth, tolerance, float("inf"), f"{type(error).__name__}: {error}")


def main():
    """Print the table; return the exit status, 1 if a row is not ok."""
    started, failed = time.monotonic(), 0
    widths = [max(len(row[column]) for row in ROWS) for column in (0, 1)]
    print(f"{'what':{widths[0]}}  {'held against':{widths[1]}}  tolerance  measured  ok")
    for row in check():
        failed += not row.ok
        line = f"{row.what:{widths[0]}}  {row.truth:{widths[1]}}  {row.tolerance:9.0e}  {row.measured:8.1e}  "
        print(line + ("yes" if row.ok else f"NO  {row.note}".rstrip()), flush=True)
    verdict = "all ok" if not failed else f"{failed} not ok"
    print(f"{len(ROWS)} rows, {verdict}, {time.monotonic() - started:.0f} s")
    return int(failed > 0)


def _noisy(n=1, shape=SHAPE, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.random((n, *shape)) + SIGMA * rng.standard_normal((n, *shape)))


def _covariance(seed):
    root = np.random.default_rng(seed).standard_normal((D, D)) / 3
    return root @ root.T


def _wiener(sigma, seed=0):
    """A Gaussian prior: its denoiser by gahb, its mean and covariance."""
    mean, cov = np.random.default_rng(seed).random(D), _covariance(seed)
    return optimal.gaussian(torch.from_numpy(mean).view(SHAPE), torch.from_numpy(cov), sigma), mean, cov


def _points():
    return np.random.default_rng(1).random((30, D))


def _posterior(y, sigma):
    """Weights of the points given y, by scipy."""
    return scipy.special.softmax(-((y - _points()) ** 2).sum(1) / (2 * sigma**2))


def _relative(found, truth):
    found, truth = (np.asarray(v, dtype=float) for v in (found, truth))
    return np.linalg.norm(found - truth) / np.linalg.norm(truth)


def _networks():
    return [net.double().eval() for net in (BFCNN(depth=4, channels=6), UNet(channels=4, blocks=1))]


def homogeneity():
    y = _noisy(1, (1, 6, 6))
    return max(_relative(jacobian(net, y) @ y.flatten(), net(y).detach().flatten()) for net in _networks())


def jacobian_differences():
    y, step = _noisy(1, (1, 6, 6)), 1e-6
    units = step * torch.eye(36, dtype=torch.float64).view(36, 1, 6, 6)
    with torch.no_grad():
        truths = [((net(y + units) - net(y - units)) / (2 * step)).flatten(1).T for net in _networks()]
    return max(_relative(jacobian(net, y), truth) for net, truth in zip(_networks(), truths, strict=True))


def leading_pairs():
    net, y = BFCNN(depth=4, channels=6).double().eval(), _noisy(1, (1, 6, 6))
    j = jacobian(net, y).numpy()
    values, vectors = np.linalg.eigh((j + j.T) / 2)
    top = adaptive_basis(net, y, k=5)
    overlap = np.abs((top.vectors.flatten(1).numpy() * vectors.T[:-6:-1]).sum(1))
    return max(_relative(top.shrinkage, values[:-6:-1]), 1 - overlap.min())


def wiener():
    f, mean, cov = _wiener(SIGMA)
    y = _noisy(5)
    truth = mean + (y.flatten(1).numpy() - mean) @ np.linalg.solve(cov + SIGMA**2 * np.eye(D), cov)
    return _relative(f(y).flatten(1), truth)


def empirical():
    y = _noisy(4)
    worst = 0
    for sigma in (1e-4, 0.01, SIGMA):
        truth = [_posterior(one, sigma) @ _points() for one in y.flatten(1).numpy()]
        f = optimal.empirical(torch.from_numpy(_points()).view(-1, *SHAPE), sigma, block=7)
        worst = max(worst, _relative(f(y).flatten(1), truth))
    return worst


def ray():
    image = _noisy(1, seed=2)[0]
    sigma = 0.2 * float(image.norm())
    s = torch.tensor([-0.3, 0.0, 0.4, 1.0, 1.5], dtype=torch.float64)
    found = optimal.ray(image, sigma)(s[:, None, None, None] * image).flatten(1) @ image.flatten() / image.norm() ** 2
    return _relative(found, scipy.stats.truncnorm.mean(-s / 0.2, (1 - s) / 0.2, loc=s, scale=0.2))


def subspace():
    vectors = torch.cat([_noisy(2, seed=3), _noisy(2, seed=3).sum(0, keepdim=True)])  # the third depends on two
    q, _ = np.linalg.qr(vectors[:2].flatten(1).numpy().T)
    y = _noisy(4)
    return _relative(optimal.subspace(vectors)(y).flatten(1), y.flatten(1).numpy() @ q @ q.T)


def miyasawa():
    means, covs, y = _points()[:2], np.stack([_covariance(1), _covariance(2)]), _noisy().flatten()
    blurred = torch.from_numpy(covs) + SIGMA**2 * torch.eye(D, dtype=torch.float64)

    def log_density(y):
        parts = torch.distributions.MultivariateNormal(torch.from_numpy(means), blurred)
        return torch.logsumexp(parts.log_prob(y), dim=0)

    score = torch.autograd.functional.jacobian(log_density, y)
    f = optimal.mixture(torch.from_numpy(means).view(2, *SHAPE), torch.from_numpy(covs), torch.ones(2), SIGMA)
    return _relative(f(y.view(1, *SHAPE)).flatten(), y + SIGMA**2 * score)


def posterior_covariance():
    y = _noisy()[0]
    truth = np.cov(_points().T, aweights=_posterior(y.flatten().numpy(), SIGMA), ddof=0) / SIGMA**2
    return _relative(jacobian(optimal.empirical(torch.from_numpy(_points()).view(-1, *SHAPE), SIGMA), y), truth)


def stein_risk():
    f, mean, cov = _wiener(SIGMA)
    x = np.random.default_rng(5).multivariate_normal(mean, cov, 4000)
    risk = metrics.stein_risk(f, torch.from_numpy(x).view(-1, *SHAPE), SIGMA)
    v = np.linalg.eigvalsh(cov)
    truth = (SIGMA**2 * v / (v + SIGMA**2)).mean()
    return max(abs(float(risk[key].mean()) - truth) / (float(risk[key].std()) / 4000**0.5) for key in ("mse", "sure"))


def optimal_trace():
    f, _, cov = _wiener(SIGMA)
    v = np.linalg.eigvalsh(cov)
    truth = (SIGMA**2 * v / (v + SIGMA**2)).sum()
    return _relative(SIGMA**2 * bases.effective_rank(adaptive_basis(f, _noisy()[0]).shrinkage), truth)


def oracle():
    c = np.arange(1.0, 200_001) ** -1.0
    sigma = 0.01  # sum of 1 / (1 + k^2 sigma^2) over all k has a closed form
    truth = sigma**2 * (np.pi / sigma / np.tanh(np.pi / sigma) - 1) / 2
    return _relative(thresholding.oracle_error(c, sigma), truth)


def kl_of_gaussians():
    (p_mean, p_cov), (q_mean, q_cov) = (_wiener(1.0, seed)[1:] for seed in (0, 7))
    p_cov, q_cov = p_cov + 0.1 * np.eye(D), q_cov + 0.1 * np.eye(D)
    ratio, shift = np.linalg.solve(q_cov, p_cov), q_mean - p_mean
    truth = (np.trace(ratio) - D - np.linalg.slogdet(ratio)[1] + shift @ np.linalg.solve(q_cov, shift)) / 2
    sigmas, gaps, zero = np.geomspace(1e-3, 1e3, 81), [], torch.zeros(SHAPE, dtype=torch.float64)
    for sigma in sigmas:
        maps = []
        for mean, cov in ((p_mean, p_cov), (q_mean, q_cov)):
            f = optimal.gaussian(torch.from_numpy(mean).view(SHAPE), torch.from_numpy(cov), sigma)
            maps.append((jacobian(f, zero).numpy(), f(zero[None]).flatten().numpy()))
        matrix, offset = maps[1][0] - maps[0][0], maps[1][1] - maps[0][1]
        spread = matrix @ (p_cov + sigma**2 * np.eye(D)) @ matrix.T
        gaps.append(np.trace(spread) + ((matrix @ p_mean + offset) ** 2).sum())
    return _relative(statistics.kl_integral(sigmas, gaps), truth)


def algorithm_1():
    f, mean, cov = _wiener(0.5)
    shrink = cov @ np.linalg.inv(cov + 0.25 * np.eye(D))
    noise = gaussian_noise(4, SHAPE).double()
    samples, worst = sample(f, noise, step_size=0.2), 0
    for i, x in enumerate(noise.flatten(1).numpy()):
        steps, level = 0, np.inf
        while level >= 0.01:
            residual = (shrink - np.eye(D)) @ (x - mean)
            steps, level, x = steps + 1, np.linalg.norm(residual) / D**0.5, x + 0.2 * residual
        worst = max(worst, _relative(samples.images[i].flatten(), x), abs(int(samples.steps[i]) - steps))
    return worst


def disk_area():
    images, parameters = datasets.disks(50, 40).double(), datasets.disk_parameters(50, 40).double()
    _, _, radius, foreground, background = parameters.unbind(1)
    truth = 1600 * background + (foreground - background) * np.pi * radius**2
    return float(((images.sum((1, 2, 3)) - truth).abs() / truth).max())


def disk_tangents():
    parameters, step = datasets.disk_parameters(5, 16).double(), 1e-5
    truth = [
        (datasets.manifolds._render_disks(parameters + h, 16) - datasets.manifolds._render_disks(parameters - h, 16))
        / (2 * step)
        for h in step * torch.eye(5, dtype=torch.float64)
    ]
    return _relative(datasets.disk_tangents(5, 16), torch.stack(truth, dim=1))


def sinusoid_rank():
    values = np.linalg.svd(datasets.sinusoids(50, 16).flatten(1).double().numpy(), compute_uv=False)
    return values[2] / values[1]


def spectral_exponents():
    size, worst = 64, 0
    k = np.arange(1, size // 2)
    low = np.fft.fftfreq(size, 1 / size)
    radius = np.hypot(low[:, None], low)
    for alpha in (1.0, 2.0):
        contour = np.abs(np.fft.fft(datasets.contours(500, size, alpha).double().numpy())) ** 2
        background = np.abs(np.fft.fft2(datasets.backgrounds(50, size, alpha).double().numpy())) ** 2
        mean, ring = background.mean((0, 1)), (radius >= 1) & (radius < size / 2)
        slopes = [np.polyfit(np.log(k), np.log(contour.mean(0)[k]), 1)[0]]
        slopes.append(np.polyfit(np.log(radius[ring]), np.log(mean[ring]), 1)[0])
        worst = max(worst, *(abs(slope / -2 - alpha) for slope in slopes))
    return worst


def shuffle_inverse():
    images = _noisy(3, (2, 5, 7))
    moved = datasets.shuffled(images, seed=4)
    same_values = torch.equal(moved.flatten(1).sort().values, images.flatten(1).sort().values)
    back = float((datasets.unshuffled(moved, seed=4) - images).abs().max())
    return back if same_values and not torch.equal(moved, images) else float("inf")


def slope():
    decibels = np.arange(0.0, 31, 5)
    fit = statistics.fit_slope(decibels, 0.6 * decibels[:, None] + [10.0, 12.0, 17.0], 5, 25)
    return max(abs(fit.slope - 0.6), abs(fit.intercept - 13), fit.error)


def identity_psnr():
    n, d = 2000, 16
    table = metrics.psnr_table(lambda y: y, torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(0)), [0.1])
    # E log chi^2_d = digamma(d / 2) + log 2.
    truth = 20 - 10 * (scipy.special.digamma(d / 2) + np.log(2 / d)) / np.log(10)
    return abs(float(table.mean()) - truth) / (float(table.std()) / n**0.5)


def parameter_counts():
    counts = [sum(p.numel() for p in net.parameters()) for net in (BFCNN(), UNet())]
    return max(abs(counts[0] - 665_856), abs(counts[1] - 7_659_264))


def determinism():
    """Largest difference of the weights of two equal trainings, with other random numbers drawn in between."""
    images = datasets.c_alpha(16, 8, 1.0)
    settings = {"size": {"depth": 3, "channels": 4}, "batch_size": 8, "images_seen": 64, "progress": False}
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    first = train(images, **settings)
    if not (np.array_equal(np.random.get_state()[1], numpy_state) and torch.equal(torch.get_rng_state(), torch_state)):
        return float("inf")  # the global random state was touched
    gaussian_noise(10, SHAPE, seed=1)
    second = train(images, **settings).state_dict()
    return max(float((value - second[key]).abs().max()) for key, value in first.state_dict().items())


# what | held against | tolerance | function that measures the deviation, relative unless the truth says otherwise
ROWS = [
    ("parameters of BFCNN and UNet", "665,856 and 7,659,264", 0, parameter_counts),
    ("f(y) = J(y) y, BFCNN and UNet", "the output of the network", 1e-10, homogeneity),
    ("Jacobian, BFCNN and UNet", "central differences", 1e-6, jacobian_differences),
    ("top 5 eigenpairs", "numpy eigh of the full Jacobian", 1e-3, leading_pairs),
    ("optimal.gaussian", "Wiener filter, numpy solve", 1e-10, wiener),
    ("optimal.empirical, sigma 1e-4 to 0.3", "softmax over the set, scipy", 1e-9, empirical),
    ("optimal.subspace", "projection by numpy qr", 1e-10, subspace),
    ("optimal.ray", "truncated normal, scipy", 1e-8, ray),
    ("optimal.mixture: Miyasawa (Eq. 8)", "score by autograd of log p(y)", 1e-10, miyasawa),
    ("Jacobian of optimal.empirical (Eq. 9)", "posterior covariance / sigma^2", 1e-9, posterior_covariance),
    ("MSE and SURE (Eq. 7)", "Gaussian prior; standard errors", 4, stein_risk),
    ("sigma^2 sum of eigenvalues (Eq. 10)", "error of the Wiener filter", 1e-9, optimal_trace),
    ("oracle_error (Eq. 12)", "closed form for c_k = 1/k", 1e-3, oracle),
    ("kl_integral (Eq. 5)", "KL of two Gaussians", 1e-3, kl_of_gaussians),
    ("sample (Algorithm 1), images and steps", "linear recursion", 1e-9, algorithm_1),
    ("PSNR of the identity", "log chi-squared; standard errors", 4, identity_psnr),
    ("fit_slope", "a line", 1e-10, slope),
    ("disks: sum of the pixels", "area pi r^2", 1e-3, disk_area),
    ("disk_tangents", "central differences", 1e-5, disk_tangents),
    ("sinusoids: third singular value", "0 (rank 2)", 1e-5, sinusoid_rank),
    ("C-alpha: exponents of the spectra", "alpha = 1 and 2, absolute", 0.05, spectral_exponents),
    ("unshuffled(shuffled(x))", "x, bit for bit", 0, shuffle_inverse),
    ("two trainings of one recipe", "each other, bit for bit", 0, determinism),
]

if __name__ == "__main__":
    sys.exit(main())
