"""What several test modules use."""

import pickle
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from gahb.training.loop import train
from gahb.training.recipe import Recipe
from gahb.training.store import identity, load_or_train

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
    return root / identity(recipe())


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
