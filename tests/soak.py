"""The smoke scale ten times in a row with kills at random moments, and what that leaves in a store.

    python tests/soak.py NEW_STORE [SEED]

Each round but the last is killed, with all its processes; the last one runs to its end, and a notebook reads the store.
"""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gahb._util.files import read_tensors
from gahb.companion import scales
from gahb.companion.cli import main as gahb
from gahb.training import loop
from gahb.training.store import identity

ROUNDS = 10
loop.CHECKPOINT_SECONDS = 0.3  # so that kills meet checkpoints; the processes that train import this file too


def start(said, *arguments):
    """Start a gahb command in its own process group, with its output in the file ``said``."""
    call = [sys.executable, __file__, "gahb", *map(str, arguments)]
    return subprocess.Popen(call, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)


def kill_at(process, store, more, seconds):
    """Kill all its processes ``seconds`` after ``more`` networks were added to the store."""
    goal = trained(store) + more
    while trained(store) < goal and process.poll() is None:
        time.sleep(0.1)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def trained(store):
    return len(list(store.glob("*/weights.safetensors")))


def faults(store):
    """A sentence on each file that is not intact. A kill may leave only files under temporary names."""
    found = [f"{file.relative_to(store)} was set aside" for file in store.rglob("*.damaged")]
    for file in sorted(file for file in store.rglob("*") if file.is_file()):
        try:
            if file.suffix == ".safetensors" and read_tensors(file) is None:
                found.append(f"{file.relative_to(store)} does not verify")
            elif file.suffix == ".json":
                json.loads(file.read_text(encoding="utf-8"))
            elif file.suffix == ".csv":
                parse_history(file)
        except (ValueError, KeyError) as error:
            found.append(f"{file.relative_to(store)}: {error}")
    for weights in store.glob("*/weights.safetensors"):
        beside = ("recipe.json", "history.csv")
        found += [f"{weights.parent.name} has no {name}" for name in beside if not weights.with_name(name).is_file()]
    return found


def parse_history(file):
    with file.open(newline="", encoding="utf-8") as opened:
        rows = [(int(row["images"]), float(row["loss"]), float(row["seconds"])) for row in csv.DictReader(opened)]
    if not rows or rows != sorted(rows, key=lambda row: row[0]):
        raise ValueError("is empty or out of order")


def faults_at_the_end(store):
    """What is missing from a finished store, or left over in it."""
    scale = scales.get("smoke")
    recipes = scales.recipes(scale, scales.faces(scale), scales.scenes(scale))
    missing = {identity(recipe) for recipe in recipes} - {path.parent.name for path in store.glob("*/weights.*")}
    found = [f"{name} is missing" for name in sorted(missing)]
    found += [f"{file.relative_to(store)} is left over" for file in store.rglob("*.tmp")]
    found += [f"{file.relative_to(store)} is left over" for file in store.rglob("checkpoint.*")]
    return faults(store) + found


def tell(number, what, store, found):
    counts = [len(list(store.glob(f"*/{name}"))) for name in ("weights.*", "checkpoint.*", ".*.tmp")]
    held = "{} networks, {} checkpoints, {} half-written files".format(*counts)
    print(f"round {number:2}: {what}; {held}; {'; '.join(found) or 'all verify'}", flush=True)
    return found


def one_round(number, store, kill=None):
    """Train until the kill, or to the end if there is none; the faults."""
    with tempfile.TemporaryFile("w+") as said:
        process = start(said, "train", "--scale", "smoke", "--jobs", 2, "--store", store)
        begun = time.monotonic()
        if kill is not None:
            kill_at(process, store, *kill)
        status = process.wait()
        seconds = time.monotonic() - begun
        said.seek(0)
        words = said.read().strip()
    found = faults(store) if status else faults_at_the_end(store)
    if "Warning" in words or status not in (0, -signal.SIGKILL if kill else 0):
        found.append(f"it ended with {status} and said: {words}")
    tell(number, f"{'killed' if status else 'at its end'} after {seconds:.1f} s", store, found)
    if kill is not None and status == 0:  # on a fast machine: the next rounds need something to break
        shutil.rmtree(store)
    return found


def read_by_a_notebook(store):
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as said:
        options = ("--store", store, "--figures", folder, "--runs", folder)
        status = start(said, "reproduce", "--scale", "smoke", "--only", "06", *options).wait()
        said.seek(0)
        return tell(ROUNDS, "notebook 06", store, faults_at_the_end(store) + ([said.read()] if status else []))


def soak(store, seed=0):
    store, draw, found = Path(store).resolve(), random.Random(int(seed)), []
    if store.exists() and any(store.iterdir()):
        sys.exit(f"soak: {store} is not empty; give a new folder, as its content is removed")
    for number in range(1, ROUNDS):
        found += one_round(number, store, (draw.randrange(4), draw.uniform(0, 8)))
    found += one_round(ROUNDS, store) + read_by_a_notebook(store)
    print(f"{len(found)} faults in seed {seed}" if found else f"every file in {store.name} verifies (seed {seed})")
    return 1 if found else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["gahb"]:
        gahb(sys.argv[2:])
    elif len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    else:
        sys.exit(soak(*sys.argv[1:]))
