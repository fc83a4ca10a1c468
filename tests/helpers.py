"""Functions that several test modules share."""

import numpy as np
import scipy.stats
import torch

from gahb import BFCNN, ResUNet, UNet, optimal
from gahb.denoisers import BiasFreeBatchNorm

# --- science: denoisers, each with an image and where known its Jacobian

SIGMA = 0.3


def draw(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def shuffled_norms(net):
    """Gains and running values that are not all one, so that a mistake in them shows."""
    generator = torch.Generator().manual_seed(5)
    for layer in net.modules():
        if isinstance(layer, BiasFreeBatchNorm):
            layer.gain.data.uniform_(0.5, 1.2, generator=generator)
            layer.running_sd.uniform_(0.8, 1.5, generator=generator)
    return net.double().eval()


NETWORKS = {
    "BFCNN": (lambda: BFCNN(5, 8), (1, 8, 8)),
    "BFCNN without first ReLU, 3 channels": (lambda: BFCNN(4, 6, 3, first_relu=False), (3, 5, 6)),
    "UNet": (lambda: UNet(4, 2), (1, 8, 8)),
    "UNet of a size that 4 does not divide": (lambda: UNet(4, 2), (1, 7, 9)),
    "UNet, 3 channels": (lambda: UNet(4, 1, 3), (3, 5, 4)),
    "ResUNet": (lambda: ResUNet(4, 2), (1, 8, 8)),
    "ResUNet of a size that 4 does not divide": (lambda: ResUNet(4, 2), (1, 7, 9)),
}


def network(name):
    build, shape = NETWORKS[name]
    return shuffled_norms(build()), draw(1, *shape, seed=1)


def empirical():
    """Prior: a finite set. J = Cov[x | y] / sigma^2."""
    train, y = draw(40, 1, 4, 5), draw(1, 1, 4, 5, seed=1)
    x, flat = train.flatten(1).numpy(), y.flatten().numpy()
    weights = np.exp(-((x - flat) ** 2).sum(1) / (2 * SIGMA**2 * 20))
    return optimal.empirical(train, SIGMA * 20**0.5), y, np.cov(x.T, aweights=weights, ddof=0) / (SIGMA**2 * 20)


def spread(seed):
    root = draw(20, 20, seed=seed).numpy() / 10
    return root @ root.T


def gaussian():
    """Wiener filter; J = C (C + sigma^2 Id)^-1."""
    mean, cov, y = draw(1, 4, 5), spread(2), draw(1, 1, 4, 5, seed=1)
    expected = cov @ np.linalg.inv(cov + SIGMA**2 * np.eye(20))
    return optimal.gaussian(mean, torch.from_numpy(cov), SIGMA), y, expected


def mixture():
    """Prior: a mixture of Gaussians. J = Cov[x | y] / sigma^2, over the mixture of the posteriors."""
    means, y, prior = draw(3, 1, 4, 5) / 5, draw(1, 1, 4, 5, seed=1) / 5, np.array([0.5, 0.3, 0.2])
    covs, flat, noise = [spread(seed) for seed in (3, 4, 5)], y.flatten().numpy(), SIGMA**2 * np.eye(20)
    centers = means.flatten(1).numpy()
    evidence = [scipy.stats.multivariate_normal(m, c + noise).pdf(flat) for m, c in zip(centers, covs, strict=True)]
    p = prior * evidence / (prior * evidence).sum()
    gains = [c @ np.linalg.inv(c + noise) for c in covs]
    posterior = np.array([m + g @ (flat - m) for m, g in zip(centers, gains, strict=True)])
    within = sum(w * SIGMA**2 * g for w, g in zip(p, gains, strict=True))
    between = np.cov(posterior.T, aweights=p, ddof=0)
    f = optimal.mixture(means, torch.from_numpy(np.array(covs)), torch.from_numpy(prior), SIGMA)
    return f, y, (within + between) / SIGMA**2


def subspace():
    """Prior: a linear space. J is its projector, B (B^T B)^-1 B^T."""
    vectors, y = draw(6, 1, 4, 5), draw(1, 1, 4, 5, seed=1)
    b = vectors.flatten(1).numpy().T
    return optimal.subspace(vectors), y, b @ np.linalg.solve(b.T @ b, b.T)


def ray():
    """Prior: one image of uniform intensity. J = Var[s | y] x x^T / sigma^2, s a truncated normal."""
    image, y = draw(1, 4, 5), draw(1, 1, 4, 5, seed=1) / 5
    x = image.flatten().numpy()
    center, width = y.flatten().numpy() @ x / (x @ x), 2 * SIGMA / np.sqrt(x @ x)
    variance = scipy.stats.truncnorm.var(-center / width, (1 - center) / width, center, width)
    return optimal.ray(image, 2 * SIGMA), y, variance * np.outer(x, x) / (2 * SIGMA) ** 2


OPTIMAL = [empirical, gaussian, mixture, subspace, ray]


def nothing():
    """J = 0: Lanczos ends at every step, and restarts from a random vector."""
    return lambda y: 0 * y, draw(1, 1, 4, 5), np.zeros((20, 20))


def identity():
    """J = Id, the same."""
    return lambda y: y, draw(1, 1, 4, 5), np.eye(20)


def case(which):
    return network(which) if isinstance(which, str) else which()[:2]


def row_by_row(f, y):
    """Plain reverse mode, one output at a time."""
    y = y.clone().requires_grad_()
    output = f(y).flatten()
    rows = [torch.autograd.grad(value, y, retain_graph=True)[0].flatten() for value in output]
    return torch.stack(rows).detach()
