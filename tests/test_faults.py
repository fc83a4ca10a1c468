"""The table of faults: each way in which files, disks, processes and users fail, and what happens then."""

import signal
import warnings
from unittest.mock import patch

import nbformat
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from faults_expected import assert_undisturbed, elsewhere, goes_on, refused, told
from faults_photographs import ARRAYS, IMAGES
from faults_store import DISKS, STORE
from test_store import folder_of, get, recipe

from gahb._util.signals import interruptible
from gahb.companion import reproduce as runner
from gahb.companion.cli import main
from gahb.released import load_released
from gahb.training import loop
from gahb.training.loop import TrainingFailed, TrainingStopped

# --- Trainings that are stopped ---------------------------------------------------------------------------------------


def diverging(tmp_path):
    get(tmp_path, recipe("faces-S1-N10", learning_rate=1e30))


def nan_later(tmp_path):
    """A weight turns NaN at step 7: the checkpoint of step 6 is kept."""
    inner, calls = torch.optim.Adam.step, [0]

    def step(self):
        inner(self)
        calls[0] += 1
        if calls[0] == 7:
            self.param_groups[0]["params"][0].data[0] = torch.nan

    step.hooked = True  # torch.optim would wrap it again
    try:
        with patch.object(torch.optim.Adam, "step", step), patch.object(training, "CHECKPOINT_SECONDS", -1):
            get(tmp_path)
    finally:
        held = safetensors.torch.load_file(folder_of(tmp_path) / "checkpoint.safetensors")
        assert all(bool(value.isfinite().all()) for value in held.values())
        assert float(held["optimizer.0.step"]) == 6


def interrupted(number):
    """A signal in the middle of a step, under the command line's own handlers."""

    def provoke(tmp_path):
        inner, calls = training.draw_sigmas, [0]

        def draw(*args):
            calls[0] += 1
            if calls[0] == 5:
                signal.raise_signal(number)
            return inner(*args)

        with patch.object(training, "draw_sigmas", draw), pytest.raises(KeyboardInterrupt), interruptible():
            get(tmp_path)
        assert (folder_of(tmp_path) / "checkpoint.safetensors").is_file() and not list(tmp_path.rglob("*.tmp"))
        assert_undisturbed(get(tmp_path))
        return "goes on from the checkpoint"

    return provoke


def time_limit(tmp_path):
    get(tmp_path, recipe(images_seen=10**7), time_limit=0.01)


GONE_ON = goes_on("goes on from the checkpoint")
NAN_LOSS = r"faces-S1-N10 failed after 16 images: its loss became nan\. Lower learning_rate \(1e\+30\) or raise"
NAN_WEIGHT = r"tiny failed after 56 images: .* is not finite\. .* is kept\. Lower"
STOPPED = "tiny stopped at its time limit .*; the same command goes on from there"
TRAININGS = [
    ("NaN loss", diverging, refused(TrainingFailed, NAN_LOSS)),
    ("NaN weight", nan_later, refused(TrainingFailed, NAN_WEIGHT)),
    ("time limit", time_limit, refused(TrainingStopped, STOPPED)),
    ("Ctrl-C", interrupted(signal.SIGINT), GONE_ON),
    ("SIGTERM", interrupted(signal.SIGTERM), GONE_ON),
]


# --- Notebooks and the command line -----------------------------------------------------------------------------------


def one_of_two_notebooks_dies(tmp_path):
    """The command goes on to the other, and its status is 1."""
    ran = []

    def run(path, output, *rest):
        ran.append(path.stem)
        nbformat.write(nbformat.v4.new_notebook(), output)
        return "DeadKernelError: Kernel died" if path.stem.startswith("01") else None

    with patch.object(runner, "run_notebook", run):
        folders = ["--runs", tmp_path / "runs", "--figures", tmp_path / "f", "--store", tmp_path / "s"]
        arguments = ["reproduce", "--only", "01", "--only", "06", "--jobs", 1, *folders]
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert "06_shuffled_faces done" in result.output and len(ran) == 2
    return result.exit_code, result.stderr.strip()


def typed(arguments):
    return lambda tmp_path: arguments.split()


TYPED = [  # what a user types, the exit status, the sentence
    ("train --sclae smoke", 2, "No such option '?--sclae"),
    ("trian", 2, "No such command 'trian'"),
    ("train --scale smokee", 1, "unknown scale 'smokee': take one of .*; did you mean smoke"),
    ("reproduce --device abacus", 1, "device 'abacus' is not available here; take auto or one of .*cpu"),
    ("train --device cuda:99 --only disks", 1, "device 'cuda:99' is not available here; take auto or one of .*cpu"),
    ("reproduce --only 99", 1, "--only 99 names no notebook; they are 01_"),
    ("train --only cats", 1, "--only cats names no denoiser of smoke; they are faces-S1-N1"),
    ("train --faces no/such", 1, "faces: there is no folder or file no/such; give a folder of images or an array"),
    ("train --scenes no/such", 1, "scenes: there is no folder or file no/such; give a folder of images or an array"),
    ("data no/such", 1, "data: there is no folder or file no/such; give a folder of images or an array"),
    ("train --jobs 0", 1, "jobs must be at least 1, got 0"),
    ("claims --figures no/such", 1, "there is no ledger in .*; run gahb reproduce --scale smoke first"),
    ("list --store no/such", 1, "--store: there is no folder no/such; give one that gahb train wrote to"),
]
DIED = (1, "gahb: 1 failed: 01_memorization_transition")
NAMES = "the name of a recipe must be letters"
COMMANDS = [
    *((f"typed: {text}", typed(text), told(status, sentence)) for text, status, sentence in TYPED),
    ("one of two notebooks dies", one_of_two_notebooks_dies, goes_on(DIED)),
    ("no released network", lambda folder: load_released(folder / "x.pt"), refused(FileNotFoundError, "give the path")),
    ("a name that would leave the store", lambda folder: get(folder, recipe("../../ran")), refused(ValueError, NAMES)),
]


# --- Heavy faults, which other tests provoke --------------------------------------------------------------------------

RIVALS = "test_store_processes::test_one_of_two_rivals_trains_and_a_dead_holder_does_not_block"
HEAVY = {
    "kill -9 at any moment": "test_store_processes::test_kill_at_any_moment",
    "Ctrl-C at any line": "test_training_interrupted::test_ctrl_c_anywhere_leaves_a_whole_checkpoint",
    "Ctrl-C and SIGTERM from outside": "test_store_processes::test_signals_from_outside",
    "Ctrl-C, SIGTERM or kill -9 among several processes": "test_processes::test_a_signal_ends_all_processes",
    "a rival process": RIVALS,
    "a dead holder of the lock": RIVALS,
    "two processes prepare photographs": "test_cache::test_two_processes_at_once_read_each_image_once",
    "any byte altered": "test_files::test_every_altered_byte_and_every_length_is_noticed",
    "disk full at each stage of a write": "test_files::test_failure_at_each_stage",
    "disk full at the weights": "test_store::test_disk_full_at_the_end",
    "no permission to read weights": "test_files::test_no_permission_is_not_damage",
    "damaged weights in a read-only store": "test_files::test_damaged_file_in_a_read_only_folder",
    "a kernel that dies, hangs or fails": "test_notebook::test_a_cell_that_fails_dies_or_hangs_is_one_sentence",
    "a failing notebook among others": "test_notebooks::test_a_failing_notebook_is_named_and_the_others_go_on",
    "an unknown parameter of a notebook": "test_notebook::test_unknown_parameter_is_refused",
    "a bad parameter of a notebook": "test_notebook::test_bad_parameters_fail_with_one_sentence",
    "CelebA with its zip, masks, hidden files": "test_layouts::test_celeba_as_kaggle_and_torchvision_lay_it_out",
    "a damaged LMDB export": "test_layouts::test_damaged_and_several_exports_are_refused",
    "a truncated LMDB export": "test_layouts::test_a_truncated_export_is_told_and_does_not_end_the_process",
    "an executed notebook cut short": "test_docs::test_no_link_and_no_image_is_broken",
    "no network": "test_photographs::test_without_a_network_the_error_says_what_to_give",
    "planted code that would run": "test_sources::test_the_malicious_object_would_run",
}
OTHERS = [(fault, None, elsewhere(node)) for fault, node in HEAVY.items()]
FAULTS = [*IMAGES, *ARRAYS, *STORE, *DISKS, *TRAININGS, *COMMANDS, *OTHERS]


@pytest.mark.parametrize(("provoke", "expect"), [pytest.param(*row[1:], id=row[0]) for row in FAULTS])
def test_each_fault_has_its_outcome(provoke, expect, tmp_path):
    (tmp_path / "here").mkdir()
    expect(provoke, tmp_path / "here")
    assert [file.name for file in tmp_path.iterdir()] == ["here"]  # nothing left its folder
    assert not list(tmp_path.rglob("ran*"))  # and no planted code ran


def test_the_table_can_fail(tmp_path):
    quiet, warned = lambda folder: 1, lambda folder: warnings.warn("odd", stacklevel=1)
    for provoke, expect in (
        (quiet, refused(ValueError, "odd")),
        (quiet, goes_on(2)),
        (quiet, goes_on(1, "odd")),
        (warned, goes_on(None)),
        (warned, goes_on(None, "even")),
        (typed("--help"), told(1, "odd")),
        (None, elsewhere("test_store::test_absent")),
    ):
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            expect(provoke, tmp_path)
    names = [name for name, *_ in FAULTS]
    assert len(set(names)) == len(names)
