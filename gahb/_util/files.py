"""Files that are whole or absent: written to a temporary file, flushed and renamed; tensors carry a checksum."""

import errno
import hashlib
import io
import json
import os
import re
import tempfile
import uuid
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

Parsed = TypeVar("Parsed")
File = Path | io.BytesIO


def absent(path: str | Path, name: str, wanted: str = "a folder of images or an array") -> FileNotFoundError:
    """The error for a path at which there is nothing: it names the absolute path that was looked for."""
    looked_for = Path(path).expanduser().absolute()
    return FileNotFoundError(f"{name}: there is no folder or file {looked_for}; give {wanted}")


def check_writable(folder: Path, instead: str) -> None:
    """Make a folder and check that it can be written to; ``instead`` says what to give if it cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"{folder} cannot be written to ({error.strerror}); give {instead}") from None


def writable_file(path: str | Path, name: str) -> Path:
    """The path of a file to be written later: not a folder, and in a folder that can be written to."""
    path = Path(path).expanduser()
    if path.is_dir():
        raise IsADirectoryError(f"{name} must be the path of a file, {path} is a folder")
    check_writable(path.parent, f"another path with {name}=")
    return path


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Call ``write(temporary)``, then rename the temporary file to ``path``; on failure nothing changes."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        with suppress(PermissionError):  # CIFS and mounted buckets refuse it, and have no modes anyway
            temporary.chmod(mode)  # some writers allow only the owner to read, but people share a store
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"{path.name} could not be written in {path.parent}: {error}. Free some space there or give another "
            "folder; what was there before is intact."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that were killed; no other process may be writing there."""
    for temporary in folder.glob(".*.tmp"):
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: str | Path, parse: Callable[[Any], Parsed]) -> Parsed | None:
    """Return ``parse(content)`` of a JSON file, or None if there is no file; a ValueError if either fails."""
    path = Path(path)
    if not path.is_file():
        return None
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path.name} in {path.parent} is damaged or was altered ({error}); put an earlier copy back, or move it "
            "away and run the notebooks again, which write it"
        ) from None


def first_bytes(file: File) -> bytes:
    """The first 256 bytes of a file."""
    if isinstance(file, io.BytesIO):
        return file.getvalue()[:256]
    with file.open("rb") as opened:
        return opened.read(256)


DISGUISES = (  # what stands at the beginning, what the file is, what to do
    (rb"(\xef\xbb\xbf)?\s*<(?!svg)(!doctype html|html|head|body|script|!--|\?xml(?!.*<svg))", "a web page", ""),
    (rb"version https://git-lfs", "a Git LFS pointer", "run 'git lfs pull' in its clone"),
    (rb".{4}ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", "an HEIC photograph", "convert it to JPEG"),
    (rb".{4}ftyp(isom|mp4|qt  |M4V)", "a video", ""),
    (rb"%PDF", "a PDF", ""),
)


def what_is(start: bytes) -> tuple[str, str]:
    """What a file of these first bytes is whatever its name, and what to do; empty if this does not tell."""
    for pattern, what, to_do in DISGUISES:
        if re.match(pattern, start, re.DOTALL | re.IGNORECASE):
            return what, to_do
    text = start.decode("latin-1").strip()
    is_text = text.isascii() and len(text) >= 8 and "".join(text.split()).isprintable()
    return (f"text that begins with {text.splitlines()[0][:40]!r}" if is_text else "", "")


LASTING = (  # errors that stay until somebody changes the file
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENAMETOOLONG,
    errno.ENXIO,
)  # fmt: skip


def is_passing(error: BaseException) -> bool:
    """Whether an error is the machine's, not the file's: a network disk that is away, no memory, too many files."""
    number = error.errno if isinstance(error, OSError) else None
    return isinstance(error, MemoryError) or (number is not None and number not in LASTING)


def try_again(name: str, error: BaseException) -> OSError:
    """The error that ends a run after one that :func:`is_passing`."""
    reason = "out of memory" if isinstance(error, MemoryError) else getattr(error, "strerror", None) or error
    return OSError(f"{name} cannot be read now ({reason}); try again")


def write_tensors(path: str | Path, tensors: dict[str, Tensor], about: Any) -> None:
    """Write named tensors with ``about`` (anything JSON can hold) and a SHA-256 of both."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    about = json.dumps(about, sort_keys=True)
    # One entry: safetensors writes several in random order, and equal content should be equal bytes.
    metadata = {"gahb": json.dumps({"about": about, "sha256": _digest(tensors, about)})}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))


def read_tensors(
    path: str | Path, check: Callable[[Any], object] = lambda about: None
) -> tuple[dict[str, Tensor], Any] | None:
    """Return (tensors, about) of a file that :func:`write_tensors` wrote, or None if it is absent or damaged.

    A damaged file is renamed to ``*.damaged`` with a warning, as is one whose ``about`` makes ``check`` raise a
    ValueError. A file that cannot be read now may be whole: it stays in place, and an OSError is raised.
    """
    path = Path(path)
    if not path.is_file():
        return None
    try:
        tensors, about = _verified(path)
        check(about)
        return tensors, about
    except FileNotFoundError:  # removed meanwhile
        return None
    except OSError as error:  # no permission, out of memory, a network disk that is away: the file is not at fault
        hint = "change its permissions, or try again"
        raise OSError(error.errno, f"{path} cannot be read now ({error.strerror or error}); {hint}") from None
    except ValueError as error:
        reason = str(error)
    outcome = set_aside(path, "damaged")
    warnings.warn(f"{path.name} in {path.parent.name} is damaged ({reason}); {outcome}", stacklevel=2)
    return None


def set_aside(path: Path, suffix: str) -> str:
    """Rename a file to ``<its name>.<suffix>``; return a few words that say whether this worked."""
    aside = path.with_name(f"{path.name}.{suffix}")
    try:
        path.replace(aside)
        return f"set aside as {aside.name}"
    except OSError as error:
        return f"not used; it could not be set aside: {error.strerror}"


def _verified(path: Path) -> tuple[dict[str, Tensor], Any]:
    with path.open("rb"):  # safetensors reports a file without read permission as missing
        pass
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get("gahb", "{}"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        if metadata.get("sha256") == _digest(tensors, metadata.get("about", "")):
            return tensors, json.loads(metadata["about"])
    except (SafetensorError, AttributeError, TypeError) as error:
        raise ValueError(str(error)) from None
    raise ValueError("its checksum does not match")


def _digest(tensors: dict[str, Tensor], about: str) -> str:
    digest = hashlib.sha256(about.encode())
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
