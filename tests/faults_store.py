"""Rows of the table of faults: files of the store and of the figures, disks and permissions, stopped trainings."""

import errno
import io
import os
import re
from contextlib import contextmanager, redirect_stderr
from functools import partial
from unittest.mock import patch

import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from faults_arrays import malicious_pickle, malicious_torch
from helpers import (
    DAMAGE,
    assert_same_weights,
    assert_undisturbed,
    contents,
    exits,
    folder_of,
    full_disk,
    get,
    leads_to,
    pixels,
    recipe,
    refused,
)

from gahb.companion import ledger, plotting
from gahb.companion.cli import main
from gahb.training import loop, store
from gahb.training.checkpoint import digest
from gahb.training.loop import TrainingFailed, TrainingStopped

WEIGHTS, CHECKPOINT = "weights.safetensors", "checkpoint.safetensors"

# --- Files of the store -----------------------------------------------------------------------------------------------


def stop_at_once(root, asked=None):
    """Leave a checkpoint after the first step."""
    with pytest.raises(TrainingStopped):
        get(root, asked, time_limit=1e-9)


def made_again(spoil, name=WEIGHTS):
    """``spoil(file)`` what a training has written, or its checkpoint; the next one has an undisturbed one's weights."""

    def provoke(tmp_path):
        stop_at_once(tmp_path) if name == CHECKPOINT else get(tmp_path)
        file = folder_of(tmp_path) / name
        spoil(file)
        bad = file.read_bytes()
        assert_undisturbed(get(tmp_path))
        return file.with_name(f"{name}.damaged").read_bytes() == bad

    return provoke


def damage(kind):
    return lambda file: file.write_bytes(DAMAGE[kind](file.read_bytes()))


def of_another_program(file):
    safetensors.torch.save_file({"a": torch.ones(2)}, file)


def of_another_network(file):
    """Weights from the folder of another recipe of the same architecture."""
    root = file.parents[1]
    get(root, recipe(seed=1))
    file.write_bytes((root / store.identity(recipe(seed=1)) / WEIGHTS).read_bytes())


def a_checkpoint_as_weights(file):
    root = file.parents[1]
    stop_at_once(root, recipe(seed=1))
    file.write_bytes((root / store.identity(recipe(seed=1)) / CHECKPOINT).read_bytes())


def checkpoint_beside_weights(tmp_path):
    """Killed after it wrote the weights, before it removed the checkpoint."""
    get(tmp_path)
    (folder_of(tmp_path) / CHECKPOINT).write_bytes(b"of no more use")
    assert_undisturbed(get(tmp_path))
    return sorted(file.name for file in folder_of(tmp_path).glob("*.safetensors"))


def listed(spoil):
    """The networks that are listed after ``spoil(folder)`` of a; the weights of b are intact."""

    def provoke(tmp_path):
        for name in ("a", "b"):
            get(tmp_path, recipe(name, images_seen=8))
        spoil(tmp_path / store.identity(recipe("a", images_seen=8)))
        result = CliRunner().invoke(main, ["list", "--store", str(tmp_path)])
        assert result.exit_code == 0, result.output
        return re.findall(r"^(\w)-", result.output, flags=re.MULTILINE)

    return provoke


def recipe_json(pattern, replacement):
    def spoil(folder):
        file = folder / "recipe.json"
        text = re.sub(pattern, replacement, file.read_text(), count=1, flags=re.DOTALL)
        assert text != file.read_text()
        file.write_text(text)

    return spoil


def beside_the_figures(name, text):
    """A damaged ``claims.json`` or ``provenance.json`` is reported at once, and left as it is."""

    def provoke(tmp_path):
        folder = tmp_path / "figures" / "smoke"
        ledger.record("5.2", {"cosine": 0.95}, "smoke", folder)
        plotting.note(folder, lambda record: record.update(scale={"name": "smoke"}))
        (folder / name).write_bytes(text.encode("latin-1"))
        if name == "claims.json":
            return ["claims", "--figures", str(folder.parent)]
        return ["reproduce", "--only", "06", "--figures", str(folder.parent), "--runs", str(tmp_path / "runs")]

    return provoke


ASIDE = r"^{0}\.safetensors in [\w-]+ is damaged \(.+\); set aside as {0}\.safetensors\.damaged"
UNREADABLE = r"recipe\.json in [\w-]+ cannot be read"
RECORDS = {
    "claims.json": {"a dict": "{}", "numbers": "[1]", "no names": '[{"id": "5.2", "measured": 0.95}]'},
    "provenance.json": {"a list": "[]", "a word": '{"scale": "smoke"}', "no keys": '{"data": {"faces": {}}}'},
}
ALTERED = r"{} in .*smoke is damaged or was altered \(.+\); put an earlier copy back, or move it away and run the note"
SPOILED = {  # recipe.json: what is replaced, by what
    "empty": (".*", ""),
    "truncated": (".{20}$", ""),
    "a dict": (".*", "{}"),
    "a list": (".*", "[]"),
    "keys": ('("made": ).*', r"\1{}}"),
    "another recipe": ('"seed": 0', '"seed": 1'),
    "null": (r'"seconds": [\d.]+', '"seconds": null'),
}
STORE = [
    *((f"weights: {kind}", made_again(damage(kind)), leads_to(True, ASIDE.format("weights"))) for kind in DAMAGE),
    *(
        (f"checkpoint: {kind}", made_again(damage(kind), CHECKPOINT), leads_to(True, ASIDE.format("checkpoint")))
        for kind in DAMAGE
    ),
    ("weights: malicious", made_again(malicious_torch), leads_to(True, ASIDE.format("weights"))),
    ("weights: malicious pickle", made_again(malicious_pickle), leads_to(True, ASIDE.format("weights"))),
    ("weights: of another program", made_again(of_another_program), leads_to(True, ASIDE.format("weights"))),
    ("weights: of another network", made_again(of_another_network), leads_to(True, "it holds the weights of tiny-")),
    ("weights: a checkpoint", made_again(a_checkpoint_as_weights), leads_to(True, "it holds no weights")),
    (
        "weights: damaged, listed",
        listed(lambda folder: os.truncate(folder / WEIGHTS, 100)),
        leads_to(["b"], ASIDE.format("weights")),
    ),
    *(
        (f"recipe.json: {what}", listed(recipe_json(*change)), leads_to(["b"], UNREADABLE))
        for what, change in SPOILED.items()
    ),
    ("checkpoint: left beside weights", checkpoint_beside_weights, leads_to([WEIGHTS])),
    *(
        (f"{name}: {what}", beside_the_figures(name, text), exits(1, ALTERED.format(name)))
        for name, forms in RECORDS.items()
        for what, text in {"empty": "", "truncated": '[{"id": "5', "not UTF-8": "[\xff", **forms}.items()
    ),
]


# --- Disks and permissions --------------------------------------------------------------------------------------------


def file_for_store(tmp_path):
    (tmp_path / "store").write_text("mine")
    try:
        get(tmp_path / "store")
    finally:
        assert (tmp_path / "store").read_text() == "mine"


@contextmanager
def read_only():
    """Root can write anywhere, so the system's refusal is imitated."""

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    with patch.object(store.Path, "mkdir", refuse), patch.object(os, "open", refuse):
        yield


def from_a_read_only_store(tmp_path):
    get(tmp_path)
    before = contents(tmp_path)
    with read_only():
        assert_undisturbed(get(tmp_path))
    return contents(tmp_path) == before


def into_a_read_only_store(tmp_path):
    with read_only():
        get(tmp_path)


def full(tmp_path):
    """The disk fills up in the middle of a training that has a checkpoint."""
    stop_at_once(tmp_path)
    before = (folder_of(tmp_path) / CHECKPOINT).read_bytes()
    try:
        with full_disk(1000), patch.object(loop, "CHECKPOINT_SECONDS", -1):
            get(tmp_path)
    finally:
        assert (folder_of(tmp_path) / CHECKPOINT).read_bytes() == before
        assert not list(tmp_path.rglob("*.tmp"))
        assert_undisturbed(get(tmp_path))  # once there is space


SPACE = "could not be written in .*Free some space there or give another folder; what was there before is intact"
NO_STORE = "the store .*here.* cannot be written to: .*; give another store"


def decoded_elsewhere(tmp_path, change=1, taken=""):
    """What is said of a network whose photographs another library decodes otherwise, and whether it is taken."""

    def of(images):
        return recipe(data={"class": "faces", "sha256": digest(images)})

    noise = torch.randint(-change, change + 1, pixels().shape, generator=torch.Generator().manual_seed(1))
    other = (pixels().int() + noise).clamp(0, 255).to(torch.uint8)
    first = get(tmp_path, of(pixels()))
    said = io.StringIO()
    with redirect_stderr(said), patch.dict(os.environ, GAHB_NEARLY=taken):
        second = get(tmp_path, of(other), other)
        assert_same_weights(second, get(tmp_path, of(other), other))  # of which nothing more is said
    same = all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    match = re.search(r"here: tiny-\w+ \(they differ by about (\S+) of 255 levels\)\. GAHB_NEARLY=1", said.getvalue())
    measured = (other.float() - pixels().float()).square().mean().sqrt()
    return match is not None and 0.5 < float(match[1]) / measured < 2, same


DISKS = [
    ("store: a file in its place", file_for_store, refused(OSError, NO_STORE)),
    ("store: read-only, network in it", from_a_read_only_store, leads_to(True)),
    ("store: read-only, network not in it", into_a_read_only_store, refused(OSError, NO_STORE)),
    ("store: images decoded elsewhere", decoded_elsewhere, leads_to((True, False))),
    (
        "store: images decoded elsewhere, taken",
        partial(decoded_elsewhere, taken="1"),
        leads_to((True, True)),
    ),
    ("store: other images", partial(decoded_elsewhere, change=20), leads_to((False, False))),
    ("store: disk full", full, refused(OSError, f"{CHECKPOINT} {SPACE}")),
]


# --- Trainings that are stopped ---------------------------------------------------------------------------------------


def diverging(tmp_path):
    get(tmp_path, recipe("faces-S1-N10", learning_rate=1e30))


NAN_LOSS = r"faces-S1-N10 failed after 16 images: its loss became nan\. Lower learning_rate \(1e\+30\) or raise"
STOPPED = "tiny stopped at its time limit .*; the same command resumes it"
TRAININGS = [
    ("training: NaN loss", diverging, refused(TrainingFailed, NAN_LOSS)),
    ("training: time limit", lambda folder: get(folder, time_limit=1e-9), refused(TrainingStopped, STOPPED)),
]
