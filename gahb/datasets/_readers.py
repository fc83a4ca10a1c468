"""Where photographs are read from: folders, LMDB exports, arrays, and packages.

No reader reads an image before it is asked to.
"""

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gahb._util.files import File, absent, first_bytes, is_passing, try_again, what_is
from gahb.datasets._arrays import ARRAYS, LFW, lfw, load_array, skimage_patches
from gahb.datasets._pixels import TRANSPARENT, Form, as_gray, read_gray, to_pixels, why_unreadable

SUFFIXES = {  # of photographs that Pillow reads
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".jp2", ".j2k", ".jpf", ".jpx", ".jpc", ".j2c", ".png", ".apng", ".webp",
    ".avif", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".tga", ".qoi", ".pbm", ".pgm", ".ppm", ".pnm", ".pfm",
}  # fmt: skip
ARCHIVES = {".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar"}
LMDB = "data.mdb"
HIDDEN, NAKED = "hidden", "without an ending"
NO_PHOTOGRAPHS = {"CelebAMask-HQ-mask-anno"}  # masks that CelebA-HQ is distributed with

Source = str | os.PathLike | None


class Images(NamedTuple):
    """Prepared images (n, 1, size, size), uint8, their names and forms; notes, each after its name or position."""

    pixels: Tensor
    names: list[str]
    forms: list[Form]
    notes: list[str]  # what of an image was left out
    unreadable: list[str]  # each with the reason


class Reader:
    """The images of a source, here those of a path. Subclasses add ``encoded()`` or a new ``read()``."""

    what: str  # for people
    unreadable_folders: Sequence[str] = ()  # each with the reason
    not_read: Sequence[str] = ()  # files that are no images, by kind, each with the reason

    def __init__(self, path: Path) -> None:
        self.path, self.place = path, str(path.resolve())  # the place tells sources apart

    def __len__(self) -> int:
        raise NotImplementedError

    def __str__(self) -> str:
        return f"{self.what} {self.path.name or Path(self.place).name}"

    def fingerprint(self) -> str:
        """A checksum that changes when the source does."""
        raise NotImplementedError

    def encoded(self, positions: Iterable[int]) -> Iterator[tuple[str, File]]:
        """Name and file of the images at some positions."""
        raise NotImplementedError

    def read(self, positions: Sequence[int], size: int) -> Images:
        """Read and prepare the images at some positions.

        An error of the disk or the memory is raised: leaving those images out would change the training sets.
        """
        images = Images(torch.empty(0, 1, size, size, dtype=torch.uint8), [], [], [], [])
        pixels = [images.pixels]
        for name, file in self.encoded(positions):
            try:
                gray, form, note = read_gray(file)
                pixels.append(to_pixels(gray, size))
            except Exception as error:  # each of Pillow's decoders raises its own errors for damaged files
                if is_passing(error):
                    raise try_again(f"{name} in {self}", error) from None
                images.unreadable.append(f"{name} ({why_unreadable(file, error)})")
                continue
            images.names.append(name)
            images.forms.append(form)
            if note:
                images.notes.append(f"{name} ({note})")
        return images._replace(pixels=torch.cat(pixels))

    def hint(self) -> str:
        """What a source without images holds instead, and what to do with it."""
        return ""

    def remarks(self) -> str:
        """Sentences on why images may be missing; empty if there is nothing to say."""
        folders, files = ", ".join(self.unreadable_folders[:3]), ", ".join(self.not_read[:3])
        hint = (files and f"Not read: {files}.") if len(self) else self.hint()
        return " ".join(filter(None, (folders and f"Unreadable folders: {folders}.", hint)))


class Folder(Reader):
    """The images below a folder, sorted by their path."""

    what = "folder"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        errors: list[OSError] = []
        self.others: Counter[str] = Counter()
        self.names = ["/".join(parts) for parts in sorted(_image_files(path, errors.append, self.others))]
        for error in errors:
            if is_passing(error):
                raise try_again(error.filename, error)
            if Path(error.filename) == path:
                raise error
        self.unreadable_folders = sorted(
            f"{Path(error.filename).relative_to(path)} ({error.strerror})" for error in errors
        )
        self.not_read = [f"{kind}: {n:,} ({_why_not(kind)})" for kind, n in sorted(self.others.items())]

    def __len__(self) -> int:
        return len(self.names)

    def fingerprint(self) -> str:
        return _state(self.encoded(range(len(self))))

    def encoded(self, positions: Iterable[int]) -> Iterator[tuple[str, Path]]:
        return ((self.names[position], self.path / self.names[position]) for position in positions)

    def hint(self) -> str:
        for file in sorted(self.path.glob("*")):
            suffix = file.suffix.lower()
            if file.is_file() and suffix in ARCHIVES | ARRAYS:
                if what_is(first_bytes(file))[0]:
                    return f"{file.name} in it {_no_images(file)}."
                return f"It holds {file.name}: " + ("unpack it." if suffix in ARCHIVES else "give that file.")
        kinds = [kind for kind in sorted(self.others) if kind.startswith(".")]
        known = ", ".join(sorted(SUFFIXES))
        return f"It holds {', '.join(kinds[:3])} files; images must be {known}." if kinds else ""


class Lmdb(Reader):
    """The encoded images of an LMDB export, such as LSUN's, sorted by their keys."""

    what = "LMDB export"

    def __len__(self) -> int:
        return len(self.keys)

    def fingerprint(self) -> str:
        return _state([(LMDB, self.path / LMDB)])

    @cached_property
    def keys(self) -> list[bytes]:
        """All keys; LMDB holds them sorted."""
        with self._opened() as environment, environment.begin() as transaction:
            return list(transaction.cursor().iternext(keys=True, values=False))

    def encoded(self, positions: Iterable[int]) -> Iterator[tuple[str, io.BytesIO]]:
        keys = [self.keys[position] for position in positions]  # first, as an export cannot be opened twice
        with self._opened() as environment, environment.begin() as transaction:
            for key in keys:
                yield key.decode("ascii", "backslashreplace"), io.BytesIO(transaction.get(key))

    def _opened(self):  # noqa: ANN202 (lmdb is optional)
        try:
            import lmdb
        except ImportError:
            raise ValueError(f"{self} needs the package lmdb to be read: pip install lmdb") from None
        try:
            environment = lmdb.open(str(self.path), readonly=True, lock=False, readahead=False)  # read-only disks too
        except lmdb.Error as error:
            if what_is(first_bytes(self.path / LMDB))[0] in ("a web page", "a Git LFS pointer"):
                raise ValueError(f"{LMDB} of {self} {_no_images(self.path / LMDB)}") from None
            reason = str(error).removeprefix(f"{self.path}: ")
            raise ValueError(f"{self} could not be read ({reason}); export it again") from None
        pages = environment.info()["last_pgno"] + 1
        if (self.path / LMDB).stat().st_size < pages * environment.stat()["psize"]:
            environment.close()  # reading beyond the end of the file would kill this process
            raise ValueError(f"{self} is truncated; copy or export it again")
        return environment


class Array(Reader):
    """Images in memory: (n, H, W), (n, H, W, C) or (n, C, H, W), uint8, uint16, or float in [0, 1]."""

    def __init__(self, load: Callable[[], np.ndarray], name: str, file: Path | None = None, package: str = "") -> None:
        self.load, self.name, self.file, self.package = load, name, file, package
        self.place = str(file.resolve()) if file else name

    @cached_property
    def images(self) -> np.ndarray:
        """Gray, (n, H, W)."""
        loaded = np.asarray(self.load())
        self.mode = f"{loaded.dtype}, {'gray' if loaded.ndim == 3 else 'x'.join(map(str, loaded.shape[1:]))}"
        gray, self.transparent = as_gray(loaded, self.name)
        return gray

    def __len__(self) -> int:
        return len(self.images)

    def __str__(self) -> str:
        return self.name

    def fingerprint(self) -> str:
        """Changes with the size or time of the file, or the version of the package."""
        return _state([(self.name, self.file)]) if self.file else f"{self.package} {version(self.package)}"

    def read(self, positions: Sequence[int], size: int) -> Images:
        """Prepare the images at some positions, which are their names."""
        pixels = to_pixels(self.images[np.asarray(positions, dtype=int)], size)
        forms = [(*self.images.shape[1:], self.mode)] * len(positions)
        notes = [f"{self} ({TRANSPARENT})"] if self.transparent else []
        return Images(pixels, [*map(str, positions)], forms, notes, [])


def open_source(kind: str, source: Source, needed: int = 1) -> Reader:
    """The reader of a source from which at least ``needed`` photographs will be taken; see :func:`gahb.datasets.faces`.

    ``kind`` begins each error: faces, scenes or data.
    """
    if source is None and (kind != "faces" or needed <= 100):
        return Array(lambda: skimage_patches(kind), f"the {kind} inside scikit-image", package="scikit-image")
    if source is None or str(source) == "lfw":
        if needed > LFW:  # before 200 MB are downloaded
            raise ValueError(
                f"{kind}: Labeled Faces in the Wild has {LFW:,} images, and {needed:,} are needed; "
                "give a folder of faces such as CelebA, or an array"
            )
        return Array(lfw, "Labeled Faces in the Wild", package="scikit-learn")
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"source must be the path of a folder or file, or 'lfw', got {type(source).__name__}")
    if not os.fspath(source):  # an unset variable, for example; Path would take it for the current folder
        raise ValueError(f"{kind}: the path is empty; give a folder of images or an array")
    path = Path(source).expanduser()
    try:
        return _open_path(kind, path)
    except PermissionError as error:
        raise PermissionError(
            f"{kind}: {path} cannot be read ({error.strerror}); change its permissions or give another source"
        ) from None


def _open_path(kind: str, path: Path) -> Reader:
    if not path.exists():
        raise absent(path, kind)
    if path.is_dir():
        return _open_folder(kind, path)
    if not path.is_file():
        raise ValueError(f"{kind}: {path} is neither a folder nor a file; give a folder of images or an array")
    if path.name == LMDB:
        return Lmdb(path.parent)
    if what_is(first_bytes(path))[0]:
        raise ValueError(f"{kind}: {path.name} {_no_images(path)}")
    if path.suffix.lower() in SUFFIXES:
        raise ValueError(f"{kind}: {path.name} is one image; give the folder it is in")
    if path.suffix.lower() not in ARRAYS:
        raise ValueError(
            f"{kind}: {path.name} is neither a folder of images nor an array ({', '.join(sorted(ARRAYS))}); "
            "unpack an archive first"
        )
    return Array(lambda: load_array(path), path.name, path)


def _open_folder(kind: str, path: Path) -> Reader:
    if (path / LMDB).is_file():
        return Lmdb(path)
    folder = Folder(path)
    exports = [] if len(folder) else sorted(file.parent for file in path.glob(f"*/{LMDB}"))
    if len(exports) > 1:
        names = ", ".join(export.name for export in exports)
        raise ValueError(f"{kind}: {folder} holds several LMDB exports: {names}; give one of them")
    return Lmdb(exports[0]) if exports else folder


def _no_images(file: Path) -> str:
    """What a file is that its name does not say, and what to do."""
    what, to_do = what_is(first_bytes(file))
    if what == "a web page":
        to_do = "the download was refused, often for its quota; open its address in a browser"
    return f"is {what} and holds no images" + (f": {to_do}" if to_do else "")


def _state(files: Iterable[tuple[str, Path]]) -> str:
    """A checksum of the names, sizes, times and permissions of some files: cheap, as none is opened."""
    digest = hashlib.sha256()
    for name, file in files:
        try:
            about = file.stat()
            line = f"{name}\0{about.st_size} {about.st_mtime_ns} {about.st_mode} {about.st_uid} {about.st_gid}\n"
        except OSError:  # such as a broken link
            line = f"{name}\0-\n"
        digest.update(os.fsencode(line))
    return digest.hexdigest()


def _image_files(folder: Path, on_error: Callable[[OSError], None], others: Counter[str]) -> Iterator[tuple[str, ...]]:
    """All images below a folder, each as the parts of its path from there; ``others`` counts the rest by kind.

    Links to folders are followed, and each folder is visited once. Hidden files and folders, such as Jupyter's and
    macOS's, are left out, and so are known folders of something else.
    """
    visited = set()
    for parent, folders, names in os.walk(folder, onerror=on_error, followlinks=True):
        place = Path(parent).stat()
        if (place.st_dev, place.st_ino) in visited:  # a link back to a folder above, or a second link
            folders.clear()
            continue
        visited.add((place.st_dev, place.st_ino))
        others.update(HIDDEN if name.startswith(".") else name for name in folders if _is_left_out(name))
        folders[:] = sorted(name for name in folders if not _is_left_out(name))
        parts = Path(parent).relative_to(folder).parts
        for name in names:  # there may be hundreds of thousands: no Path for each
            _, dot, suffix = name.rpartition(".")
            if not name.startswith(".") and dot + suffix.lower() in SUFFIXES:
                yield *parts, name
            else:
                others[HIDDEN if name.startswith(".") else dot + suffix.lower() if dot else NAKED] += 1


def _is_left_out(folder: str) -> bool:
    return folder.startswith(".") or folder in NO_PHOTOGRAPHS


def _why_not(kind: str) -> str:
    if kind == HIDDEN or kind in NO_PHOTOGRAPHS:
        return "left out"
    if kind in ARCHIVES:
        return "unpack them"
    return "give one of them alone" if kind in ARRAYS else "no image format that is read; convert photographs to .jpg"
