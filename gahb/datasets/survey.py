"""What a source of photographs holds, found out before hours are spent on it: ``gahb data``."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from tqdm import tqdm

from gahb._util import checks
from gahb._util.files import write_atomically
from gahb.datasets._pixels import CELEBA
from gahb.datasets._readers import open_source
from gahb.datasets.photographs import near_duplicates, spread

MARK = "gahb contact sheet"  # written into each sheet, so that no other picture is ever overwritten
PARTITION = "list_eval_partition.*"  # of CelebA: .csv from Kaggle, .txt from torchvision
LARGEST = 1024  # pixels: tens of thousands of larger images fit no memory
BLOCK = 256  # images between two updates of the bar

Needs = Sequence[tuple[str, str, Sequence[int], int]]


@dataclass(frozen=True)
class Survey:
    """What :func:`survey` found."""

    source: str
    found: int  # images in the source
    examined: int  # of them, those that were read
    sizes: Counter[tuple[int, int]]  # number of images of each height and width, pixels
    modes: Counter[str]  # of each of Pillow's modes, or of an array's type and layout
    unreadable: list[str]  # names, with the reason
    unreadable_folders: list[str]
    near_duplicates: list[str]
    pixels: Tensor = field(repr=False)  # the usable photographs, prepared: (n, 1, size, size), uint8
    partition: str | None = None  # name of CelebA's partition file, if there is one

    def lines(self, needs: Needs = ()) -> list[str]:
        """The findings as lines of text.

        Each of ``needs`` is a name, a kind of photographs, training-set sizes N, and a number of test images; its line
        says for which N there are 2 N + test usable photographs.
        """
        part = f"{self.examined:,} examined: no training set needs more"
        lines = [
            f"{self.source}: {self.found:,} images, {'all examined' if self.examined == self.found else part}",
            f"  sizes     {_commonest(self.sizes, lambda size: f'{size[0]} x {size[1]}')} (height x width)",
            f"  modes     {_commonest(self.modes, str)}",
        ]
        if CELEBA in self.sizes:
            lines.append("  layout    CelebA's aligned images: the central 160 x 160 is taken")
        if self.partition:
            lines.append(f"  partition {self.partition} is not used: S1 and S2 are the two ends, test is the middle")
        if self.unreadable_folders:
            lines += _listed("unreadable folders", self.unreadable_folders)
        lines += _listed("unreadable", self.unreadable)
        lines += _listed("near duplicates", self.near_duplicates)
        lines.append(f"  usable: {len(self.pixels):,}" + (", enough for" if needs else ""))
        lines += [
            f"    {name:11} {kind:7} {_enough(len(self.pixels), sizes, test)}" for name, kind, sizes, test in needs
        ]
        return [line.encode("utf-8", "backslashreplace").decode() for line in lines]  # file names may not be UTF-8


def survey(source: str | Path, size: int = 40, most: int | None = None, progress: bool = True) -> Survey:
    """Read a source of photographs as a training would, and count what is found.

    Parameters
    ----------
    source : str or Path
        As for :func:`gahb.datasets.faces`.
    size : int
        Height and width of the prepared images, pixels, from 4 to 1024.
    most : int, optional
        Number of images to examine, from both ends and the middle as a training would; all if left out.
    progress : bool
        Show a bar, on a terminal.

    Returns
    -------
    Survey
    """
    if checks.count(size, "size", 4) > LARGEST:
        raise ValueError(f"size must be at most {LARGEST}, got {size}")
    reader = open_source("data", source)
    if not len(reader):
        message = f"data: {reader} holds no images; give a folder of images or an array. {reader.remarks()}"
        raise ValueError(message.rstrip())
    positions = spread(len(reader), len(reader) if most is None else checks.count(most, "most"))
    blocks = []
    disable = None if progress else True  # None: unless there is a terminal
    with tqdm(total=len(positions), unit="image", disable=disable, leave=False) as bar:
        for start in range(0, len(positions), BLOCK):
            block = positions[start : start + BLOCK]
            blocks.append(reader.read(block, size))
            bar.update(len(block))
    pixels = torch.cat([block.pixels for block in blocks])
    names = [name for block in blocks for name in block.names]
    forms = [form for block in blocks for form in block.forms]
    repeated = near_duplicates(pixels)
    return Survey(
        source=str(reader),
        found=len(reader),
        examined=len(positions),
        sizes=Counter((height, width) for height, width, _ in forms),
        modes=Counter(mode for *_, mode in forms),
        unreadable=[name for block in blocks for name in block.unreadable],
        unreadable_folders=list(reader.unreadable_folders),
        near_duplicates=[name for name, again in zip(names, repeated, strict=True) if again],
        pixels=pixels[torch.from_numpy(~repeated)],
        partition=_partition(source),
    )


def contact_sheet(pixels: Tensor, path: str | Path) -> None:
    """Write a PNG of up to 100 evenly spaced images in a grid.

    Parameters
    ----------
    pixels : Tensor (n, 1, size, size), uint8
    path : str or Path
        Overwritten only if it is a contact sheet; see :func:`check_sheet`.
    """
    check_sheet(path)
    if not len(pixels):
        raise ValueError("there are no images for a contact sheet")
    marks = PngInfo()
    marks.add_text("Software", MARK)
    sheet = _grid(pixels[torch.linspace(0, len(pixels) - 1, min(100, len(pixels))).round().long(), 0])
    write_atomically(path, lambda temporary: sheet.save(temporary, format="PNG", pnginfo=marks))


def check_sheet(path: str | Path, source: str | Path | None = None) -> None:
    """Raise an error unless a path may become a contact sheet: a PNG outside ``source``, and no other file is there."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"a contact sheet is a PNG: give a name that ends in .png, not {path.name}")
    if source is not None and path.resolve().is_relative_to(Path(source).expanduser().resolve()):
        raise ValueError(f"{path} is among the photographs and would be taken for one; give another path with --sheet")
    if not path.exists():
        return
    try:
        with Image.open(path) as image:
            ours = image.info.get("Software") == MARK
    except OSError:
        ours = False
    if not ours:
        raise FileExistsError(f"{path} exists and is not a contact sheet; give another path with --sheet")


def default_sheet(source: str | Path) -> Path:
    """Path of a source's contact sheet: ``<name>-contact-sheet.png`` in the current folder.

    If the current folder is among the photographs, the sheet goes beside their folder instead.
    """
    place = Path(source).expanduser().resolve()
    folder = Path.cwd()
    if place.is_dir() and folder.is_relative_to(place):
        folder = place.parent
    return folder / f"{place.stem if place.is_file() else place.name}-contact-sheet.png"


def _grid(images: Tensor) -> Image.Image:
    """Images (n, size, size) as one picture, on white, each at least 80 pixels wide."""
    from skimage.util import montage

    n, size = images.shape[:2]
    columns, factor = max(1, round(n**0.5)), -(-80 // size)
    tiles = images.numpy().repeat(factor, 1).repeat(factor, 2)
    return Image.fromarray(montage(tiles, fill=255, padding_width=4, grid_shape=(-(-n // columns), columns)))


def _partition(source: str | Path) -> str | None:
    folder = Path(source).expanduser()
    found = [*folder.glob(PARTITION), *folder.glob(f"*/{PARTITION}")] if folder.is_dir() else []
    return min(file.name for file in found) if found else None


def _commonest(counter: Counter, show: Callable[[Any], str], most: int = 4) -> str:
    """The most common few of a counter, and how many others there are."""
    text = ", ".join(f"{show(value)}: {n:,}" for value, n in counter.most_common(most))
    others = len(counter) - most
    return (text or "none") + (f", and {others} others" if others > 0 else "")


def _listed(title: str, names: list[str], most: int = 10) -> list[str]:
    rest = [f"    and {len(names) - most:,} more"] if len(names) > most else []
    return [f"  {title}: {len(names):,}", *(f"    {name}" for name in names[:most]), *rest]


def _enough(usable: int, sizes: Sequence[int], test: int) -> str:
    """Which training-set sizes N there are enough photographs for, and what the others need."""
    enough = [n for n in sizes if 2 * n + test <= usable]
    text = f"N = {', '.join(f'{n:,}' for n in enough)}" if enough else "none"
    lacking = [f"{n:,} needs {2 * n + test:,}" for n in sizes if n not in enough]
    return text + (f"; N = {', '.join(lacking)}" if lacking else "")
