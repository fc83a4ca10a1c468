"""What a source of photographs holds, found out before hours are spent on it: ``gahb data``."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from gahb._util import checks
from gahb._util.files import write_atomically
from gahb.datasets._pixels import CELEBA
from gahb.datasets._readers import open_source
from gahb.datasets.photographs import near_duplicates, spread

BLOCK = 256  # images between two updates of the bar

Needs = Sequence[tuple[str, str, Sequence[int], int]]


@dataclass(frozen=True)
class Survey:
    """What :func:`survey` found.

    Attributes
    ----------
    source : str
        What was surveyed.
    found : int
        Images in the source.
    examined : int
        Of them, those that were read.
    sizes : Counter of str
        Number of images of each height and width, pixels.
    modes : Counter of str
        Number of images of each of Pillow's modes, or of an array's type and layout.
    unreadable : list of str
        Names of files and folders, with the reason.
    near_duplicates : list of str
        Names of the images that nearly repeat another.
    notes : list of str
        Names of the images of which something was left out, and what.
    not_read : list of str
        Kinds of files that are no images, with their number and the reason.
    pixels : Tensor (n, 1, size, size), uint8
        The usable photographs, prepared.
    """

    source: str
    found: int
    examined: int
    sizes: Counter[str]
    modes: Counter[str]
    unreadable: list[str]
    near_duplicates: list[str]
    notes: list[str]
    not_read: list[str]
    pixels: Tensor = field(repr=False)

    def lines(self, needs: Needs = ()) -> list[str]:
        """The findings as lines of text.

        Each of ``needs`` is a name, a kind of photographs, training-set sizes N, and a number of test images; its line
        says for which N there are 2 N + test usable photographs.
        """
        lines = [
            f"{self.source}: {self.found:,} images, {self.examined:,} examined",
            f"  sizes     {_commonest(self.sizes)} (height x width)",
            f"  modes     {_commonest(self.modes)}",
            *_listed("unreadable", self.unreadable),
            *_listed("near duplicates", self.near_duplicates),
            *(_listed("parts left out", self.notes) if self.notes else []),
            *(["  not read:", *(f"    {kind}" for kind in self.not_read)] if self.not_read else []),
            f"  usable: {len(self.pixels):,}",
        ]
        if "{} x {}".format(*CELEBA) in self.sizes:
            lines.insert(3, "  layout    CelebA's aligned images: the central 160 x 160 is taken")
        for name, kind, sizes, test in needs:
            verdicts = [f"N = {n:,} {_enough(len(self.pixels), 2 * n + test)}" for n in sizes]
            lines.append(f"    {name:11} {kind:7} {'; '.join(verdicts)}")
        return [line.encode("utf-8", "backslashreplace").decode() for line in lines]  # file names may not be UTF-8


def survey(source: str | Path, size: int = 40, most: int | None = None, progress: bool = True) -> Survey:
    """Read a source of photographs as a training would, and count what is found.

    Parameters
    ----------
    source : str or Path
        As for :func:`gahb.datasets.faces`.
    size : int
        Height and width of the prepared images, pixels.
    most : int, optional
        Number of images to examine, from both ends and the middle as a training would; all if left out.
    progress : bool
        Show a bar, on a terminal.

    Returns
    -------
    Survey
    """
    checks.count(size, "size", 4)
    reader = open_source("data", source)
    if not len(reader):
        message = f"data: {reader} holds no images; give a folder of images or an array. {reader.remarks()}"
        raise ValueError(message.rstrip())
    positions = spread(len(reader), len(reader) if most is None else checks.count(most, "most"))
    starts = range(0, len(positions), BLOCK)
    disable = None if progress else True  # None: unless there is a terminal
    bar = tqdm(starts, unit="image", unit_scale=BLOCK, disable=disable, leave=False)
    blocks = [reader.read(positions[start : start + BLOCK], size) for start in bar]
    pixels = torch.cat([block.pixels for block in blocks])
    names = [name for block in blocks for name in block.names]
    forms = [form for block in blocks for form in block.forms]
    repeated = near_duplicates(pixels)
    return Survey(
        source=str(reader),
        found=len(reader),
        examined=len(positions),
        sizes=Counter(f"{height} x {width}" for height, width, _ in forms),
        modes=Counter(mode for *_, mode in forms),
        unreadable=[*reader.unreadable_folders, *(name for block in blocks for name in block.unreadable)],
        near_duplicates=[name for name, again in zip(names, repeated, strict=True) if again],
        notes=list(dict.fromkeys(note for block in blocks for note in block.notes)),
        not_read=list(reader.not_read),
        pixels=pixels[torch.from_numpy(~repeated)],
    )


def contact_sheet(pixels: Tensor, path: str | Path) -> None:
    """Write a PNG of up to 100 evenly spaced images in a grid, on white, each at least 80 pixels wide.

    Parameters
    ----------
    pixels : Tensor (n, 1, size, size), uint8
    path : str or Path
        Of a file that does not exist.
    """
    from skimage.util import montage

    path = Path(path).expanduser()
    check_absent(path)
    if not len(pixels):
        raise ValueError("there are no images for a contact sheet")
    images = pixels[torch.linspace(0, len(pixels) - 1, min(100, len(pixels))).round().long(), 0]
    n, size = images.shape[:2]
    columns, factor = max(1, round(n**0.5)), -(-80 // size)
    tiles = images.numpy().repeat(factor, 1).repeat(factor, 2)
    sheet = Image.fromarray(montage(tiles, fill=255, padding_width=4, grid_shape=(-(-n // columns), columns)))
    write_atomically(path, lambda temporary: sheet.save(temporary, format="PNG"))


def check_absent(path: str | Path) -> None:
    """Raise an error if there is a file or folder at the path of a contact sheet.

    Parameters
    ----------
    path : str or Path
        Where the contact sheet would go.
    """
    if Path(path).expanduser().exists():
        raise FileExistsError(f"{path} exists already; give the contact sheet another path with --sheet")


def _enough(usable: int, needed: int) -> str:
    return "is possible" if needed <= usable else f"needs {needed:,}"


def _commonest(counter: Counter[str], most: int = 4) -> str:
    """The most common few of a counter, and how many others there are."""
    text = ", ".join(f"{value}: {n:,}" for value, n in counter.most_common(most)) or "none"
    return text + (f", and {len(counter) - most} others" if len(counter) > most else "")


def _listed(title: str, names: list[str], most: int = 10) -> list[str]:
    rest = [f"    and {len(names) - most:,} more"] if len(names) > most else []
    return [f"  {title}: {len(names):,}", *(f"    {name}" for name in names[:most]), *rest]
