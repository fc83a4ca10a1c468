"""Prepared photographs, kept so that all notebooks and processes prepare them only once.

``<cache>/<kind>-<size>-<hash of the request>/`` holds ``pixels.safetensors``, and the manifest of each set of pixels
that was ever prepared there.
"""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
from torch import Tensor

from gahb._util.files import check_writable, read_tensors, remove_leftovers, write_tensors, write_text

Prepared = tuple[Tensor, dict[str, Any]]  # the pixels, uint8, and their manifest


def load_or_prepare(
    cache: str | Path, request: dict[str, Any], fingerprint: str, prepare: Callable[[], Prepared]
) -> Prepared:
    """Return ``prepare()``, from the cache if it is there and the source has not changed.

    ``request`` is everything that decides the result except the content of the source, which ``fingerprint`` tells. If
    two processes request the same photographs, one prepares them and the other waits.
    """
    hashed = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:10]
    folder = Path(cache).expanduser() / f"{request['kind']}-{request['size']}-{hashed}"
    file = folder / "pixels.safetensors"
    found = _load(file, fingerprint)
    if found is not None:
        return found
    check_writable(folder, "another store or cache")
    with filelock.FileLock(folder / ".lock"):  # free again if its process dies
        found = _load(file, fingerprint)  # another process may have prepared them meanwhile
        if found is None:
            if file.is_file():
                print(f"the source of the {request['kind']} has changed; reading it again", file=sys.stderr)
            remove_leftovers(folder)
            found = prepare()
            _save(file, fingerprint, *found)
    return found


def _load(file: Path, fingerprint: str) -> Prepared | None:
    found = read_tensors(file)
    if found is None or found[1].get("fingerprint") != fingerprint:
        return None
    tensors, about = found
    return tensors["pixels"], about["manifest"]


def _save(file: Path, fingerprint: str, pixels: Tensor, manifest: dict[str, Any]) -> None:
    name = f"manifest-{manifest['sha256'][:10]}.json"
    write_text(file.with_name(name), json.dumps(manifest, indent=1) + "\n")
    write_tensors(file, {"pixels": pixels}, {"fingerprint": fingerprint, "manifest": manifest})
