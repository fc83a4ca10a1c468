"""Prepared photographs, kept so that they are read and prepared once for all notebooks and processes.

``<cache>/<kind>-<size>-<hash of what was asked for>/`` holds ``pixels.safetensors``, and a manifest
for each set of pixels that was ever prepared there.
"""

import hashlib
import json
import sys
from contextlib import contextmanager
from pathlib import Path

import filelock

from gahb._util.files import read_tensors, remove_leftovers, write_tensors, write_text


def through(cache, asked, fingerprint, prepare):
    """The (pixels, manifest) of ``prepare()``, from the cache if they are there and the source is unchanged.

    Of two processes that ask for the same photographs, one prepares them and the other waits.

    Parameters
    ----------
    cache : str or Path
        Folder.
    asked : dict
        What decides the result beside the source's content: kind, size, place and so on.
    fingerprint : str
        Of the source as it is now.
    prepare : callable
        Makes the pixels, uint8, and their manifest.

    Raises
    ------
    OSError
        If the photographs are not there and the folder cannot be written to.
    """
    hashed = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:10]
    folder = Path(cache).expanduser() / f"{asked['kind']}-{asked['size']}-{hashed}"
    file = folder / "pixels.safetensors"
    found = _load(file, fingerprint)
    if found is None:
        with _locked(folder):
            found = _load(file, fingerprint)  # another process may have prepared them meanwhile
            if found is None:
                if file.is_file():
                    print(f"the source of the {asked['kind']} has changed, and is read again", file=sys.stderr)
                remove_leftovers(folder)
                found = prepare()
                _save(file, fingerprint, *found)
    return found


def _load(file, fingerprint):
    tensors, about = read_tensors(file) or ({}, {})
    return (tensors["pixels"], about["manifest"]) if about.get("fingerprint") == fingerprint else None


def _save(file, fingerprint, pixels, manifest):
    name = f"manifest-{manifest['sha256'][:10]}.json"
    write_text(file.with_name(name), json.dumps(manifest, indent=1) + "\n")
    write_tensors(file, {"pixels": pixels}, {"fingerprint": fingerprint, "manifest": manifest})


@contextmanager
def _locked(folder):
    """One process at a time; the lock of a process that died is free."""
    lock = filelock.FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise OSError(
            f"prepared photographs cannot be kept in {folder.parent}: {error}; give another store or cache"
        ) from None
    try:
        yield
    finally:
        lock.release()
