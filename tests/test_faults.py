"""The table of faults: each way in which files, disks and users fail, and what happens then.

Faults that need other processes (kills, signals from outside, rivals, kernels that die) are in
``test_store_processes``, ``test_training_interrupted``, ``test_processes`` and ``test_notebook``.
"""

import shlex
from unittest.mock import patch

import nbformat
import pytest
from click.testing import CliRunner
from faults_arrays import ARRAYS_AND_CACHE
from faults_machines import MACHINES
from faults_photographs import IMAGES
from faults_store import DISKS, STORE, TRAININGS
from helpers import exits, leads_to, refused

from gahb.companion import reproduce
from gahb.companion.cli import main
from gahb.released import load_released


def one_of_two_notebooks_dies(tmp_path):
    """The other is run nevertheless, and the exit status is 1."""
    ran = []

    def run(path, output, *rest):
        ran.append(path.stem)
        nbformat.write(nbformat.v4.new_notebook(), output)
        return "DeadKernelError: Kernel died" if path.stem.startswith("01") else None

    with patch.object(reproduce, "run_notebook", run):
        folders = ["--runs", tmp_path / "runs", "--figures", tmp_path / "f", "--store", tmp_path / "s"]
        arguments = ["reproduce", "--only", "01", "--only", "06", "--jobs", 1, *folders]
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert "06_shuffled_faces done" in result.output and len(ran) == 2
    return result.exit_code, result.stderr.strip()


def typed(arguments):
    return lambda tmp_path: shlex.split(arguments)


TYPED = [  # what a user types, the exit status, the message
    ("train --sclae smoke", 2, "No such option '?--sclae"),
    ("trian", 2, "No such command 'trian'"),
    ("train --scale smokee", 1, "unknown scale 'smokee': take one of smoke, laptop"),
    ("reproduce --device abacus", 1, "device 'abacus' is not available here; take auto or one of .*cpu"),
    ("train --device cuda:99 --only disks", 1, "device 'cuda:99' is not available here; take auto or one of .*cpu"),
    ("reproduce --only 99", 1, "--only 99 names no notebook; they are 01_"),
    ("train --only cats", 1, "--only cats names no network of smoke; they are faces-S1-N1"),
    ("train --faces no/such", 1, "faces: there is no folder or file /.*/no/such; give a folder of images"),
    (
        "train --scenes no/such",
        1,
        "scenes: there is no folder or file /.*/no/such; give a folder of images or an array",
    ),
    ("data no/such", 1, "data: there is no folder or file /.*/no/such; give a folder of images"),
    ("train --scenes ''", 1, "scenes: the path is empty; give a folder of images or an array"),
    ("data ''", 1, "data: the path is empty; give a folder of images or an array"),
    ("reproduce --denoiser no.pt", 1, "denoiser: there is no folder or file /.*/no.pt; give the path of a .pt file"),
    ("reproduce --seed -1", 2, "Invalid value for .--seed.: -1 is not in the range x>=0"),
    ("train --time-limit 0", 2, "Invalid value for .--time-limit"),
    (
        "assess --samples no/such --train x",
        1,
        "samples: there is no folder or file /.*/no/such; give a folder of images",
    ),
    ("assess --samples .", 2, "Missing option .--train."),
    ("train --jobs 0", 2, "Invalid value for .--jobs.: 0 is not in the range x>=1"),
    ("train --slurm partition=gpu", 1, "--slurm partition=gpu needs --cluster slurm"),
    ("train --cluster local --slurm x=1", 1, "--slurm x=1 needs --cluster slurm"),
    ("train --cluster local --jobs 2", 1, "--jobs is for training here; with --cluster"),
    ("claims --figures no/such", 1, "there is no ledger in .*; run gahb reproduce --scale smoke first"),
    ("list --store no/such", 2, "Directory .no/such. does not exist"),
]
DIED = (1, "gahb: 1 failed: 01_memorization_transition")
COMMANDS = [
    *((f"typed: {text}", typed(text), exits(status, sentence)) for text, status, sentence in TYPED),
    ("one of two notebooks dies", one_of_two_notebooks_dies, leads_to(DIED)),
    ("no released network", lambda folder: load_released(folder / "x.pt"), refused(FileNotFoundError, "give the path")),
]
FAULTS = [*IMAGES, *ARRAYS_AND_CACHE, *STORE, *DISKS, *TRAININGS, *COMMANDS, *MACHINES]


@pytest.mark.parametrize(("provoke", "expect"), [pytest.param(*row[1:], id=row[0]) for row in FAULTS])
def test_each_fault_has_its_outcome(provoke, expect, tmp_path):
    (tmp_path / "here").mkdir()
    expect(provoke, tmp_path / "here")
    assert [file.name for file in tmp_path.iterdir()] == ["here"]  # nothing left its folder
    assert not list(tmp_path.rglob("ran*"))  # and no planted code ran
