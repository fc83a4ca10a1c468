"""What a source of photographs holds, found out before hours are spent on it: ``gahb data``."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from gahb._util import checks
from gahb._util.files import write_atomically
from gahb.datasets import _readers
from gahb.datasets._pixels import CELEBA
from gahb.datasets.photographs import near_duplicates, spread

MARK = "gahb contact sheet"  # in each sheet, so that no other picture is ever overwritten
PARTITION = "list_eval_partition.*"  # of CelebA: .csv as Kaggle has it, .txt as torchvision
LARGEST = 1024  # pixels: tens of thousands of larger images fit no memory
BLOCK = 256  # images between two moves of the bar

Needs = Sequence[tuple[str, str, Sequence[int], int]]


@dataclass(frozen=True)
class Survey:
    """What :func:`survey` found.

    Attributes
    ----------
    source : str
    found, examined : int
        Images there are, and of them those that were read: no more than the largest set needs.
    sizes : Counter
        Of (height, width), pixels.
    modes : Counter
        Of Pillow's modes, or an array's type and layout.
    unreadable, near_duplicates : list of str
        Names; the unreadable ones with the reason.
    pixels : Tensor (n, 1, size, size), uint8
        The usable photographs, prepared.
    partition : str or None
        Name of CelebA's partition file, if there is one.
    closed : list of str
        Folders that may not be entered, with the reason.
    """

    source: str
    found: int
    examined: int
    sizes: Counter
    modes: Counter
    unreadable: list
    near_duplicates: list
    pixels: torch.Tensor = field(repr=False)
    partition: str | None = None
    closed: list = field(default_factory=list)

    def lines(self, needs: Needs = ()) -> list[str]:
        """The findings as lines of text.

        ``needs`` are rows (name, kind, training-set sizes N, number of test images): each is told whether the usable
        photographs suffice for 2 N + test.
        """
        of = "all" if self.examined == self.found else f"{self.examined:,}"
        lines = [f"{self.source}: {self.found:,} images, {of} examined"]
        if self.examined < self.found:
            lines.append("            the others are not needed, and no training set would read them")
        lines += [
            f"  sizes     {_commonest(self.sizes, lambda size: f'{size[0]} x {size[1]}')} (height x width)",
            f"  modes     {_commonest(self.modes, str)}",
        ]
        if CELEBA in self.sizes:
            lines.append("  layout    CelebA's aligned images: the central 160 x 160 is taken")
        if self.partition:
            lines.append(f"  partition {self.partition} is not used: S1 and S2 are the two ends, test is the middle")
        if self.closed:
            lines += _some(f"folders that may not be entered: {len(self.closed):,}", self.closed)
        lines += _some(f"unreadable: {len(self.unreadable):,}", self.unreadable)
        lines += _some(f"near duplicates: {len(self.near_duplicates):,}", self.near_duplicates)
        lines.append(f"  usable: {len(self.pixels):,}" + (", which suffice for" if needs else ""))
        lines += [
            f"    {name:11} {kind:7} {_suffices(len(self.pixels), sizes, test)}" for name, kind, sizes, test in needs
        ]
        return [line.encode("utf-8", "backslashreplace").decode() for line in lines]  # names of files hold anything


def survey(source: str | Path, size: int = 40, most: int | None = None, progress: bool = True) -> Survey:
    """Read a source of photographs as training would, and count what is found.

    Parameters
    ----------
    source : str or Path
        As for :func:`gahb.datasets.faces`.
    size : int
        Height and width of the prepared images, pixels.
    most : int, optional
        Number of images examined, from both ends and the middle as a training would; all if left out.
    progress : bool
        Show a bar.

    Returns
    -------
    Survey

    Raises
    ------
    FileNotFoundError
        If there is no such source.
    PermissionError
        If it may not be read.
    ValueError, TypeError
        If it holds no images, is of a kind that cannot be read, or ``size`` is not an integer from 4 to 1024.
    """
    if checks.count(size, "size", 4) > LARGEST:
        raise ValueError(f"size must be at most {LARGEST}, got {size}")
    reader = _readers.open_source("data", source)
    if not len(reader):
        message = f"data: {reader} holds no images; give a folder of images or an array."
        raise ValueError(" ".join(part for part in (message, _readers.told_closed(reader), reader.hint()) if part))
    positions, forms = spread(len(reader), len(reader) if most is None else checks.count(most, "most")), []
    blocks = [positions[start : start + BLOCK] for start in range(0, len(positions), BLOCK)]
    pixels, names, unreadable = [], [], []
    hidden = None if progress else True  # None: where there is no terminal
    with tqdm(total=len(positions), unit="image", disable=hidden, leave=False) as bar:
        for block in blocks:
            for found, new in zip((pixels, names, unreadable), reader.read(block, size, forms), strict=True):
                found.extend(new)
            bar.update(len(block))
    pixels = torch.stack(pixels) if pixels else torch.empty(0, 1, size, size, dtype=torch.uint8)
    repeated = near_duplicates(pixels)
    return Survey(
        str(reader),
        len(reader),
        len(positions),
        Counter((height, width) for height, width, _ in forms),
        Counter(mode for *_, mode in forms),
        unreadable,
        [name for name, again in zip(names, repeated, strict=True) if again],
        pixels[torch.from_numpy(~repeated)],
        _partition(source),
        list(reader.closed),
    )


def contact_sheet(pixels, path, most=100):
    """Write a PNG of evenly spaced images in a grid.

    Parameters
    ----------
    pixels : Tensor (n, 1, size, size), uint8
    path : str or Path
        Overwritten only if it is a contact sheet.
    most : int
        Images shown at most.

    Raises
    ------
    ValueError, TypeError
        If there are no images, ``path`` does not end in ``.png``, or ``most`` is not a positive integer.
    FileExistsError
        If something else than a contact sheet is there.
    OSError
        If it cannot be written.
    """
    from PIL.PngImagePlugin import PngInfo

    checks.count(most, "most")
    check_sheet(path)
    if not len(pixels):
        raise ValueError("there are no images for a contact sheet")
    marks = PngInfo()
    marks.add_text("Software", MARK)
    sheet = _grid(pixels[torch.linspace(0, len(pixels) - 1, min(most, len(pixels))).round().long(), 0])
    write_atomically(path, lambda temporary: sheet.save(temporary, format="PNG", pnginfo=marks))


def check_sheet(path, source=None):
    """Raise unless a contact sheet may be written to a path, which is not among the photographs themselves.

    Parameters
    ----------
    path : str or Path
    source : str or Path, optional
        The photographs.

    Raises
    ------
    ValueError
        If ``path`` does not end in ``.png``, or is below ``source``.
    FileExistsError
        If something else than a contact sheet is there.
    """
    from PIL import Image

    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"a contact sheet is a PNG: give a name that ends in .png, not {path.name}")
    if source is not None and path.resolve().is_relative_to(Path(source).expanduser().resolve()):
        raise ValueError(f"{path} is among the photographs and would be taken for one; give another with --sheet")
    if not path.exists():
        return
    try:
        with Image.open(path) as image:
            ours = image.info.get("Software") == MARK
    except OSError:
        ours = False
    if not ours:
        raise FileExistsError(f"{path} is there and is no contact sheet; give another name with --sheet")


def default_sheet(source):
    """Where the contact sheet of a source goes: ``<name>-contact-sheet.png`` in the current folder.

    Parameters
    ----------
    source : str or Path

    Returns
    -------
    Path
        Beside the folder of the photographs, if the current folder is in it.
    """
    place = Path(source).expanduser().resolve()
    folder = Path.cwd()
    if place.is_dir() and folder.is_relative_to(place):  # a sheet among photographs would be taken for one
        folder = place.parent
    return folder / f"{place.stem if place.is_file() else place.name}-contact-sheet.png"


def _grid(images):
    """Images (n, size, size) as one picture, on white, each at least 80 pixels wide."""
    from PIL import Image

    n, size = images.shape[:2]
    columns, factor, gap = max(1, round(n**0.5)), -(-80 // size), 4
    step = size * factor + gap
    sheet = Image.new("L", (columns * step + gap, -(-n // columns) * step + gap), 255)
    for i, image in enumerate(images.numpy()):
        tile = Image.fromarray(image).resize((size * factor, size * factor), Image.Resampling.NEAREST)
        sheet.paste(tile, (gap + i % columns * step, gap + i // columns * step))
    return sheet


def _partition(source):
    folder = Path(source).expanduser()
    found = [*folder.glob(PARTITION), *folder.glob(f"*/{PARTITION}")] if folder.is_dir() else []
    return min(file.name for file in found) if found else None


def _commonest(counter, show, most=4):
    """The commonest few of a counter, and how many others there are."""
    text = ", ".join(f"{show(value)}: {n:,}" for value, n in counter.most_common(most))
    others = len(counter) - most
    return (text or "none") + (f", and {others} others" if others > 0 else "")


def _some(title, names, most=10):
    rest = [f"    and {len(names) - most:,} more"] if len(names) > most else []
    return [f"  {title}", *(f"    {name}" for name in names[:most]), *rest]


def _suffices(usable, sizes, test):
    """Which training-set sizes N there are enough photographs for, and what the others need."""
    enough = [n for n in sizes if 2 * n + test <= usable]
    text = f"N = {', '.join(f'{n:,}' for n in enough)}" if enough else "none"
    lacking = [f"{n:,} needs {2 * n + test:,}" for n in sizes if n not in enough]
    return text + (f"; N = {', '.join(lacking)}" if lacking else "")
