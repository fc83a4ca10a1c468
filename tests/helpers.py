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
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor, nn

from gahb.companion.cli import main
from gahb.training.loop import train
from gahb.training.recipe import Recipe
from gahb.training.store import identity, load_or_train

# --- training and the store -------------------------------------------------------------------------------------------

TINY = {"network_kwargs": {"depth": 3, "channels": 4}, "batch_size": 8}


def pixels(n: int = 12, channels: int = 1, seed: int = 0) -> Tensor:
    """Random 8-bit images of 8x8."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, 8, 8), generator=generator, dtype=torch.uint8)


def recipe(name: str = "tiny", **changes: object) -> Recipe:
    """A training of twenty steps that takes a few hundredths of a second; its images are ``pixels()``."""
    return Recipe(name, **({"data": {"class": "random"}, "images_seen": 160} | TINY | changes))


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
def locked(*folders: Path) -> Iterator[None]:
    """Folders that cannot be listed. Root can list any folder, so the system's refusal is imitated."""
    scandir = os.scandir

    def refuse(folder: Path) -> Iterator[os.DirEntry]:
        if Path(folder) in folders:
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
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
