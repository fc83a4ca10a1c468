"""What several test modules use."""

import errno
import os
import pickle
import re
import resource
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import scipy.stats
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor, nn

from gahb import BFCNN, ResUNet, UNet, optimal
from gahb.companion.cli import main
from gahb.denoisers import BiasFreeBatchNorm
from gahb.training import store
from gahb.training.loop import train
from gahb.training.recipe import Recipe
from gahb.training.store import load_or_train

# --- training and the store -------------------------------------------------------------------------------------------

TINY = {"network_kwargs": {"depth": 3, "channels": 4}, "batch_size": 8, "images_seen": 160, "compile": False}


def pixels(n: int = 12, channels: int = 1, seed: int = 0) -> Tensor:
    """Random 8-bit images of 8x8."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, 8, 8), generator=generator, dtype=torch.uint8)


def recipe(name: str = "tiny", **changes: object) -> Recipe:
    """A training that takes a few hundredths of a second; its images are ``pixels()``."""
    return Recipe(name, **({"data": {"class": "random"}} | TINY | changes))


def get(root: Path, asked: Recipe | None = None, images: Tensor | None = None, **options: object) -> nn.Module:
    """``load_or_train`` on the CPU, of ``recipe()`` on ``pixels()`` unless others are given."""
    images = pixels() if images is None else images
    return load_or_train(asked or recipe(), images, root, "cpu", progress=False, **options)


def folder_of(root: Path) -> Path:
    """Folder of ``recipe()`` in a store."""
    return root / store.identity(recipe())


def contents(root: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def trained(images: Tensor | None = None, **settings: object) -> nn.Module:
    """``train`` with tiny settings, on ``pixels()`` unless other images are given."""
    return train(pixels() if images is None else images, **({"progress": False} | TINY | settings))


def without_seconds(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{key: row[key] for key in ("images", "loss", "learning_rate")} for row in history]


def assert_same_weights(first: nn.Module, second: nn.Module) -> None:
    first, second = first.state_dict(), second.state_dict()
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


@cache
def _undisturbed(threads: int) -> nn.Module:
    return train(pixels(), recipe(), progress=False)


def assert_undisturbed(network: nn.Module) -> None:
    """Same bits as one training of ``recipe()`` without any interruption, with as many threads as now."""
    assert_same_weights(network, _undisturbed(torch.get_num_threads()))
    assert not network.training


DAMAGE = {
    "truncated": lambda good: good[:-10],
    "altered": lambda good: good[:-5] + bytes([good[-5] ^ 1]) + good[-4:],
    "empty": lambda good: b"",
    "pickle": lambda good: pickle.dumps({"a": 1}),
}


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """Writes beyond ``limit`` bytes of a file fail with the operating system's own error."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


# --- data -------------------------------------------------------------------------------------------------------------

PAGE = "\n <!DOCTYPE html><html><head><title>Quota exceeded</title></head><body>Sorry.</body></html>"


def picture(seed: int, height: int = 40, width: int = 40, channels: int = 3) -> np.ndarray:
    """A smooth random picture (height, width, channels), uint8, unlike those of other seeds."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, channels), dtype=np.uint8)
    bands = [Image.fromarray(coarse[..., c]).resize((width, height), Image.BICUBIC) for c in range(channels)]
    return np.stack([np.asarray(band) for band in bands], axis=-1)


def gray_pictures(n: int, height: int = 16, width: int = 16) -> np.ndarray:
    """Smooth random pictures (n, height, width), uint8."""
    return np.stack([picture(seed, height, width, 1)[..., 0] for seed in range(n)])


def fill(folder: Path, names: Iterable[str], **size: int) -> Path:
    """Write the picture of each position to its name in a folder, which is returned."""
    for seed, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed, **size)).save(file)
    return folder


def gray(colors: np.ndarray) -> np.ndarray:
    """Mean of the channels, in [0, 1]."""
    return colors.astype(float).mean(-1) / 255


@contextmanager
def locked(*folders: Path, error: OSError | None = None) -> Iterator[None]:
    """Folders that cannot be listed. Root can list any folder, so the system's refusal is imitated."""
    scandir = os.scandir

    def refuse(folder: Path) -> Iterator[os.DirEntry]:
        if Path(folder) in folders:
            raise error or PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scandir(folder)

    with patch.object(os, "scandir", refuse):
        yield


# --- faults: what a row of the table expects --------------------------------------------------------------------------

Check = Callable[[Callable[[Path], object], Path], None]


def refused(kind: type[Exception], sentence: str) -> Check:
    """An error of this kind, whose message matches."""

    def check(provoke: Callable[[Path], object], folder: Path) -> None:
        with pytest.raises(kind, match=sentence):
            provoke(folder)

    return check


def leads_to(outcome: object, warning: str | None = None) -> Check:
    """This outcome, with one warning that matches, or without any."""

    def check(provoke: Callable[[Path], object], folder: Path) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert provoke(folder) == outcome
        messages = [str(one.message) for one in caught]
        assert len(messages) == (warning is not None), messages
        assert warning is None or re.search(warning, messages[0]), messages

    return check


def exits(status: int, sentence: str) -> Check:
    """This exit status of the command line that is returned, with a message on stderr that matches."""

    def check(provoke: Callable[[Path], list[str]], folder: Path) -> None:
        result = CliRunner(env={"GAHB_STORE": str(folder)}).invoke(main, provoke(folder))
        assert result.exit_code == status, result.output
        assert re.search(sentence, result.stderr), result.stderr
        assert status != 1 or result.stderr.startswith("gahb: ")
        assert "Traceback" not in result.output

    return check


# --- science: denoisers, each with an image and, where known, its Jacobian --------------------------------------------

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
    "BFCNN of kernels of several sizes": (lambda: BFCNN(6, 6, kernel_sizes=[3, 1, 5, 1, 1, 3]), (1, 7, 9)),
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


def unchanged():
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
