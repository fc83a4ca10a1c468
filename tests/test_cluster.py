"""Jobs of a cluster: preempted, timed out, stopped and failed ones really run here; Slurm's own commands are faked."""

import os
import re
import signal
import sys
from dataclasses import dataclass, replace
from types import SimpleNamespace
from unittest.mock import patch

import cloudpickle
import pytest
import torch
from click.testing import CliRunner
from helpers import assert_undisturbed, pixels, recipe

from gahb.companion import scales
from gahb.companion.cli import main
from gahb.training import cluster, loop, step
from gahb.training.cluster import submit
from gahb.training.store import has, identity, load, stored

TASK = (recipe(), pixels())
DISTURBED = {  # the signal, and the step in whose middle it comes, in each run; step 0 is before the training
    "preempted": (signal.SIGUSR2, [5]),
    "timed-out": (signal.SIGUSR2, [0, 5]),
    "stopped": (signal.SIGTERM, [5]),
}
DIVERGING = recipe("diverging", learning_rate=1e30)


@dataclass(frozen=True)
class Disturbed(cluster.Training):
    """A job that gets its signals, and writes down how many steps each run began; it saves after each step."""

    def __call__(self):
        notes = self.store / f"{self.recipe.name}-steps"
        signalled, steps = DISTURBED.get(self.recipe.name, (None, []))
        run = len(notes.read_text().split()) if notes.exists() else 0
        inner, begun = step.draw_sigmas, [0]

        def disturb():
            if steps[run : run + 1] == begun:
                signal.raise_signal(signalled)

        def draw(*arguments):
            begun[0] += 1
            disturb()
            return inner(*arguments)

        try:
            disturb()
            with patch.object(step, "draw_sigmas", draw), patch.object(loop, "CHECKPOINT_SECONDS", -1):
                super().__call__()
        finally:
            with notes.open("a") as file:
                file.write(f"{begun[0]} ")


class Root:
    """A store, and what was echoed when jobs were submitted to it."""

    def __init__(self, folder):
        self.folder, self.said = folder, []

    def submit(self, timeouts, time_limit, *recipes):
        with patch.object(cluster, "TIMEOUTS", {"local": timeouts}):
            tasks = [(recipe, pixels()) for recipe in recipes]
            return submit(tasks, "local", self.folder, "cpu", time_limit, echo=self.said.append)

    def steps(self, name):
        return (self.folder / f"{name}-steps").read_text().split()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Four jobs at once; then again the one that used up its time-outs."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    root, former = Root(tmp_path_factory.mktemp("store")), torch.get_num_threads()
    torch.set_num_threads(1)  # as in the jobs: another number of threads may round otherwise
    with patch.object(cluster, "cores", lambda: 1), patch.object(cluster, "Training", Disturbed):
        running = root.submit(5, cluster.TIME_LIMIT, recipe("preempted"), recipe("stopped"), DIVERGING)
        running += root.submit(1, 590, recipe("timed-out"))  # under ten minutes, any signal counts as a time-out
        for job in running:
            job._process.wait()
        for job in root.submit(1, cluster.TIME_LIMIT, recipe("timed-out")):
            job._process.wait()
    yield root
    torch.set_num_threads(former)


def reported(root, asked):
    """What a second submission says of a job that failed, without submitting anything."""
    said = []
    with patch("submitit.LocalExecutor.submit", lambda executor, work: SimpleNamespace(job_id="99")):
        submit([(asked, pixels())], "local", root.folder, echo=said.append)
    assert said[0] == "0 of 1 networks are in the store" and said[2] == f"{asked.name} is job 99"
    return said[1]


@pytest.mark.slow
def test_each_job_ends_with_the_bits_of_an_undisturbed_run(root):
    for name in ("preempted", "timed-out"):
        assert_undisturbed(load(root.folder / identity(recipe(name)), images=pixels()))


@pytest.mark.slow
def test_a_preempted_job_queues_again_and_resumes_from_its_checkpoint(root):
    assert root.steps("preempted") == ["5", "16"]  # of twenty, the fifth was interrupted and undone
    (log,) = (root.folder / "jobs" / identity(recipe("preempted"))).glob("*.out")
    assert "this job is preempted" in log.read_text()


@pytest.mark.slow
def test_a_job_queues_again_at_its_time_limit_but_not_for_ever(root):
    assert root.steps("timed-out") == ["0", "5", "16"]  # the third is another job
    (line,) = (line for line in root.said if "FAILED" in line)
    assert re.fullmatch(
        r"timed-out FAILED: job \d+: .*Job not requeued because: timed-out too many times\. \(log: .*\)", line
    )


@pytest.mark.slow
def test_a_stopped_job_keeps_its_checkpoint(root):
    assert root.steps("stopped") == ["5"]
    assert (root.folder / identity(recipe("stopped")) / "checkpoint.safetensors").is_file()
    assert re.fullmatch(r"stopped FAILED: job \d+: KeyboardInterrupt \(log: .*\)", reported(root, recipe("stopped")))


@pytest.mark.slow
def test_a_job_that_failed_is_reported_when_it_is_submitted_again(root):
    sentence = r"diverging FAILED: job \d+: .*the training of diverging failed.*Lower learning_rate \(1e\+30\).*"
    assert re.fullmatch(sentence, reported(root, DIVERGING))
    assert not has(DIVERGING, root.folder)


@pytest.mark.slow
def test_jobs_are_no_networks(root):
    names = ["preempted", "timed-out"]
    assert [row["recipe"]["name"] for row in stored(root.folder)] == names
    for name in names:  # their images are no longer needed
        assert not list((root.folder / "jobs" / identity(recipe(name))).glob("*_submitted.pkl"))


@pytest.mark.slow
def test_gahb_train_on_a_cluster(monkeypatch, tmp_path):
    fast = scales.SMOKE_TRAINING | {"images_seen": 64, "network_kwargs": {"depth": 2, "channels": 2}}
    monkeypatch.setitem(scales.SCALES, "smoke", replace(scales.get("smoke"), synthetic_training=fast, class_N=8))
    submitted, inner = [], cluster.submit
    monkeypatch.setattr(cluster, "submit", lambda *arguments: submitted.extend(inner(*arguments)))
    arguments = ["train", "--only", "disks", "--store", str(tmp_path), "--cluster", "local"]
    first = CliRunner().invoke(main, arguments)
    assert first.exit_code == 0, first.output
    (job,) = submitted
    assert f"disks-N8 is job {job.job_id}\nsubmitted: 1. Logs are in {tmp_path / 'jobs'}; kill" in first.output
    assert job._process.wait() == 0
    second = CliRunner().invoke(main, arguments)
    assert second.output == "1 of 1 networks are in the store\n" and len(submitted) == 1


# --- Slurm's commands, faked ------------------------------------------------------------------------------------------


@pytest.fixture
def slurm(monkeypatch, tmp_path):
    """A folder of commands before all others; write into ``queue`` what squeue should say."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    command(folder / "srun", "exit 1")
    command(folder / "sbatch", "echo Submitted batch job 17")
    command(folder / "squeue", f"cat {folder}/queue")
    (folder / "queue").touch()
    return folder


def command(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_the_directives_of_a_job_of_slurm(slurm, tmp_path):
    said = []
    options = ["partition=gpu", "gpus_per_node=1", "exclusive", "comment=a b"]
    (job,) = submit([TASK], "slurm", tmp_path / "store", time_limit=5401, options=options, echo=said.append)
    place = tmp_path / "store" / "jobs" / identity(recipe())
    lines = (place / "17_submission.sh").read_text().splitlines()
    directives = {line for line in lines if line.startswith("#SBATCH")}
    assert {
        "#SBATCH --time=91", "#SBATCH --partition=gpu", "#SBATCH --gpus-per-node=1", "#SBATCH --exclusive",
        "#SBATCH --comment='a b'", "#SBATCH --requeue", "#SBATCH --signal=USR2@90", "#SBATCH --open-mode=append",
        f"#SBATCH --job-name={identity(recipe())}", f"#SBATCH --output={place}/%j_0_log.out",
    } <= directives  # fmt: skip
    work = job.submission().function
    assert isinstance(work, cluster.Training)
    assert (work.store, work.device, work.recipe) == (tmp_path / "store", "auto", recipe())
    assert torch.equal(work.images, pixels())
    assert work.checkpoint().function is work
    assert "squeue --me" in said[-1] and "scancel" in said[-1]


def test_who_is_in_the_queue_gets_no_second_job(slurm, tmp_path):
    asked = [TASK, (recipe("other"), pixels())]
    assert len(submit(asked[:1], "slurm", tmp_path, echo=print)) == 1
    (slurm / "queue").write_text("3\n17\n")
    command(slurm / "sbatch", "echo Submitted batch job 18")
    said = []
    assert [job.job_id for job in submit(asked, "slurm", tmp_path, echo=said.append)] == ["18"]
    assert "tiny already has a job" in said
    (slurm / "queue").write_text("18\n")  # it has ended, and left no network and no log
    assert [job.job_id for job in submit(asked, "slurm", tmp_path, echo=print)] == ["18"]


def test_what_slurm_refuses(slurm, tmp_path):
    command(slurm / "sbatch", "echo sbatch: error: invalid partition specified: gpuu >&2; exit 1")
    with pytest.raises(RuntimeError, match=r"^Slurm refused the job of tiny: sbatch: error: invalid partition"):
        submit([TASK], "slurm", tmp_path, options=["partition=gpuu"], echo=print)
    command(slurm / "squeue", "echo squeue: error: Unable to contact slurm controller >&2; exit 1")
    with pytest.raises(RuntimeError, match=r"^Slurm does not answer: squeue: error: Unable to contact"):
        submit([TASK], "slurm", tmp_path, echo=print)


def test_the_last_words_of_a_job_are_reported(slurm, tmp_path):
    submit([TASK], "slurm", tmp_path, echo=print)
    log = tmp_path / "jobs" / identity(recipe()) / "17_0_log.out"
    log.write_text("slurmstepd: error: Detected 1 oom_kill event\nsrun: error: task 0: Exited with exit code 1\n")
    said = []
    submit([TASK], "slurm", tmp_path, echo=said.append)
    assert said[1] == f"tiny FAILED: job 17: slurmstepd: error: Detected 1 oom_kill event (log: {log})"


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_mistakes_and_what_is_missing_get_one_sentence(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="time_limit must be a positive number, got 0"):
        submit([TASK], "local", tmp_path, time_limit=0)
    with pytest.raises(ValueError, match="cluster must be one of slurm, local, got 'moon'"):
        submit([TASK], "moon", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"^there is no Slurm here: squeue is not found"):
        submit([TASK], "slurm", tmp_path, echo=print)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(RuntimeError, match="need submitit, which is not installed: pip install submitit"):
        submit([TASK], "local", tmp_path, echo=print)
