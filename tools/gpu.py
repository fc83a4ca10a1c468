"""All that a quarter of an hour of one GPU can do for a scale, in one call; a second call finishes.

``python tools/gpu.py faces OUT --scale paper --faces FACES --scenes SCENES`` trains the networks of faces and scenes
and runs notebooks 01 and 02; ``others`` trains the rest and runs 03 to 06. A notebook starts as soon as its networks
are there, beside the next trainings. At the end OUT holds the ledger, the report, the figures, the executed notebooks
and the weights that may be public, in a few files of at most 15 MB. What was trained stays in the store.
"""

import argparse
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pretrain

from gahb.companion import notebook, scales, tasks
from gahb.training import store as stores
from gahb.training.parallel import train_all

STAGES = {  # networks, and the notebooks that can run once these and those before them are trained
    "faces": ((("faces-*",), ("01",)), (("scenes-*",), ("02",))),
    "others": (
        (("shuffled-*", "faces-S1-N10000"), ("03", "06")),
        (("c_alpha-*",), ("04",)),
        (("disks", "ray", "sinusoids"), ("05",)),
    ),
}
FOR_NOTEBOOKS = 240  # seconds at the end in which nothing is trained
VOLUME = 15_000_000  # bytes


def run(half: str, scale: str, faces: str, scenes: str, store: Path, minutes: float, jobs: int, device: str) -> bool:
    """Train and run one half; return whether all of it was done."""
    end = time.monotonic() + 60 * minutes
    options = ["--faces", faces, "--scenes", scenes, "--store", str(store), "--device", device, "--scale", scale]
    running, complete = [], True
    for networks, notebooks in STAGES[half]:
        wanted = tasks.of_scale(scales.get(scale), networks, faces, scenes, 0, store)
        left = end - time.monotonic() - FOR_NOTEBOOKS
        if left > 0 and train_all(wanted, store, device, jobs, left):
            chosen = [word for name in notebooks for word in ("--only", name)]
            running.append(subprocess.Popen([sys.executable, "-m", "gahb", "reproduce", *chosen, *options]))
        else:
            print(f"no time for notebooks {', '.join(notebooks)}; call this again", flush=True)
            complete = False
    for process in running:
        try:
            complete &= process.wait(max(1, end - time.monotonic())) == 0
        except subprocess.TimeoutExpired:
            process.terminate()  # the ledger has what its notebooks measured so far
            process.wait()
            complete = False
    return complete


def pack(files: Iterable[tuple[Path, str]], out: Path, stem: str, limit: int = VOLUME) -> list[Path]:
    """Pack files, each under its name inside, into as many archives ``stem-1.tar`` ... as the limit asks for.

    A file that is larger than the limit has an archive of its own.
    """
    volumes: list[list[tuple[Path, str]]] = []
    size = limit
    for path, name in files:
        size += path.stat().st_size + 2048  # its header, and padding
        if size > limit:
            volumes.append([])
            size = path.stat().st_size + 2048
        volumes[-1].append((path, name))
    paths = []
    for index, volume in enumerate(volumes, 1):
        paths.append(out / f"{stem}-{index}.tar")
        with tarfile.open(paths[-1], "w") as archive:
            for path, name in volume:
                archive.add(path, name)
    return paths


def public_weights(scale: str, faces: str, scenes: str, store: Path, to: Path) -> list[tuple[Path, str]]:
    """Copy the trained networks that may be public to a folder, in half precision; return their files."""
    recipes = [recipe for recipe, _ in tasks.of_scale(scales.get(scale), (), faces, scenes, 0, store)]
    trained = [recipe for recipe in recipes if (store / stores.identity(recipe) / "recipe.json").is_file()]
    pretrain.copy(trained, to, store)
    return [(path, f"pretrained/{scale}/{path.relative_to(to)}") for path in sorted(to.rglob("*")) if path.is_file()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one half and pack what it made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("half", choices=STAGES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scale", required=True)
    parser.add_argument("--faces", required=True)
    parser.add_argument("--scenes", required=True)
    parser.add_argument("--store", type=Path, default=stores.default_store())
    parser.add_argument("--minutes", type=float, default=13)
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once")
    parser.add_argument("--device", default="auto")
    given = vars(parser.parse_args(arguments))
    half, out = given.pop("half"), given.pop("out")
    out.mkdir(parents=True, exist_ok=True)
    complete = run(half, **given)
    where = {"scale": given["scale"], "faces": given["faces"], "scenes": given["scenes"], "store": given["store"]}
    made = Path(notebook.default_figures()) / given["scale"]
    runs = made.parents[1] / "runs" / given["scale"]
    written = [(path, str(path.relative_to(made.parents[1]))) for folder in (made, runs)
               for path in sorted(folder.glob("*")) if path.is_file()]  # fmt: skip
    archives = pack(written, out, half) + pack(public_weights(**where, to=out / "copy"), out, f"{half}-weights")
    print("\n".join(str(path) for path in archives), "complete" if complete else "not complete: call this again")


if __name__ == "__main__":
    main()
