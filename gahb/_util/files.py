"""Files that are whole or absent: written beside, flushed and renamed; tensors carry a checksum."""

import hashlib
import json
import os
import tempfile
import uuid
import warnings
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file


def check_writable(folder, instead):
    """Make a folder, and see that files can be written there; ``instead`` is what to give where they cannot.

    Raises
    ------
    OSError
        If they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"{folder} cannot be written to ({error.strerror}); give {instead}") from None


def writable_file(path, name):
    """The path of a file that is written later: it is no folder, and its folder can be written to."""
    path = Path(path).expanduser()
    if path.is_dir():
        raise IsADirectoryError(f"{name} must be the path of a file, {path} is a folder")
    check_writable(path.parent, f"another path with {name}=")
    return path


def write_atomically(path, write):
    """Call ``write(temporary)``, then rename the temporary file to ``path``; on failure nothing changes.

    Raises
    ------
    OSError
        If the folder cannot be written to or is full, with a sentence that says so.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)  # some writers keep a file to its owner: a store may be shared
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


def remove_leftovers(folder):
    """Remove the temporary files of writers that were killed; nobody may be writing there."""
    for temporary in Path(folder).glob(".*.tmp"):
        temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Write a text file, whole or not at all."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path, parse):
    """``parse`` of what a JSON file holds, or None if there is no file.

    Raises
    ------
    ValueError
        If it holds no JSON, or ``parse`` fails on it; with a sentence that says what to do.
    """
    path = Path(path)
    if not path.is_file():
        return None
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path.name} in {path.parent} is damaged or was altered ({error}); put an earlier copy back, or move it "
            "away and run the notebooks again, which write it anew"
        ) from None


def write_tensors(path, tensors, about):
    """Write named tensors with ``about`` (anything JSON can hold) and a SHA-256 of both."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    about = json.dumps(about, sort_keys=True)
    # One entry: safetensors writes several in random order, and equal content should be equal bytes.
    metadata = {"gahb": json.dumps({"about": about, "sha256": _digest(tensors, about)})}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))


def verified_tensors(path):
    """The (tensors, about) of a file that :func:`write_tensors` wrote.

    Raises
    ------
    ValueError
        If it is damaged or of another program.
    OSError
        If it cannot be read.
    """
    with Path(path).open("rb"):  # safetensors would say that a file which may not be read is not there
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


def read_tensors(path, check=None):
    """The (tensors, about) of a file, or None if there is none or it is damaged.

    A damaged file is renamed to ``*.damaged`` with a warning, and never loaded half. So is one of whose
    ``about`` the function ``check`` raises a ValueError: one that is whole, but of something else.

    Raises
    ------
    OSError
        If the file cannot be read: it may be whole, and stays where it is.
    """
    path = Path(path)
    if not path.is_file():
        return None
    try:
        tensors, about = verified_tensors(path)
        if check is not None:
            check(about)
        return tensors, about
    except PermissionError:
        raise PermissionError(f"{path} may not be read; change its permissions or give another folder") from None
    except FileNotFoundError:  # removed meanwhile
        return None
    except OSError as error:  # a machine out of files or memory, a network disk that is away: no fault of the file
        raise OSError(error.errno, f"{path} cannot be read now ({error.strerror or error}); try again") from None
    except ValueError as error:
        reason = str(error)
    outcome = set_aside(path, "damaged")
    warnings.warn(f"{path.name} in {path.parent.name} is damaged ({reason}); {outcome}", stacklevel=2)
    return None


def set_aside(path, suffix):
    """Rename a file to ``<its name>.<suffix>``; what was done, or could not be done, in a few words."""
    aside = path.with_name(f"{path.name}.{suffix}")
    try:
        path.replace(aside)
        return f"set aside as {aside.name}"
    except OSError as error:
        return f"not used; it could not be set aside: {error.strerror}"


def _digest(tensors, about):
    digest = hashlib.sha256(about.encode())
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
