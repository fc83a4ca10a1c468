"""Train the denoisers of a scale as jobs, one each, through `submitit`: a Slurm cluster, or processes of this machine.

A job trains one denoiser into the store, which all nodes must see. At its time limit, or when it is
preempted, it writes the store's checkpoint and queues again; the training ends with the same bits
as an undisturbed one. Logs and what submitit needs are in ``<store>/jobs/<denoiser>/``.
"""

import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gahb._util.devices import cores
from gahb._util.signals import interruptible
from gahb.training import store as stores
from gahb.training.parallel import missing
from gahb.training.recipe import Recipe

CLUSTERS = ("slurm", "local")
TIME_LIMIT = 4 * 3600.0  # seconds; short jobs start sooner, and this one goes on after it
TIMEOUTS = {"slurm": 1_000, "local": 5}  # how often one queues again; submitit's local controller starts it 6 times
OURS = {"time", "job-name", "output", "error", "signal", "requeue", "array", "nodes", "ntasks", "ntasks-per-node"}
# A job may be signalled while it still imports torch; the signal then waits until Training can answer it.
WAITING = (
    "import os, signal, sys; from submitit import JobEnvironment; "
    "signal.pthread_sigmask(signal.SIG_BLOCK, [getattr(signal, 'SIG' + JobEnvironment.USR_SIG)]); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
SAID = "gahb: "  # begins the line of a log that says why a job ended


@dataclass(frozen=True)
class Training:
    """What a job does; submitit pickles it, with the training images."""

    recipe: Recipe
    images: Tensor | None
    store: Path
    device: str
    threads: int | None = None

    def __call__(self):
        import submitit

        environment = submitit.JobEnvironment()
        torch.set_num_threads(self.threads or int(os.environ.get("SLURM_CPUS_ON_NODE", cores())))
        try:
            self._train(environment)
        except KeyboardInterrupt:
            print(f"{SAID}it was stopped; its checkpoint is kept", flush=True)
            raise
        except Exception as error:
            print(f"{SAID}{error}", flush=True)
            raise
        for submitted in environment.paths.folder.glob("*_submitted.pkl"):
            submitted.unlink(missing_ok=True)  # it holds the images, which nobody needs there any more

    def checkpoint(self):
        """What runs when the job has queued again: the same, and the store holds how far it came."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _train(self, environment):
        """Train; when the cluster wants the node back, stop as at Ctrl-C, and only then queue again."""
        number = getattr(signal, f"SIG{environment.USR_SIG}")
        queue_again, arrived = signal.getsignal(number), []

        def stop(*signalled):
            arrived.append(signalled)
            signal.raise_signal(signal.SIGINT)  # which a training holds back until its state is whole

        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        signal.signal(number, stop)
        # Slurm announces a preemption by SIGTERM, and the job must live on to queue again; here `kill` sends it.
        stoppable = interruptible() if environment.cluster == "local" else nullcontext()
        try:
            with stoppable:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
                stores.load_or_train(self.recipe, self.images, self.store, self.device)
        except KeyboardInterrupt:
            if not arrived:
                raise
            queue_again(*arrived[0])  # submitit's handler, which ends this process
        finally:
            signal.signal(number, queue_again)


def submit(tasks, cluster, store=None, device="auto", time_limit=None, options=(), echo=print):
    """Submit a job for each of some recipes that the store lacks and that no job is training.

    Returns at once. Called again it says what the jobs that failed had to say, and submits those anew.

    Parameters
    ----------
    tasks : sequence of (Recipe, Tensor or None)
        Recipes and their training images; None: those of the recipe's generator.
    cluster : str
        ``"slurm"``; or ``"local"``, processes of this machine that all start at once, to try the path.
    store : str or Path, optional
        The store; every node must see it.
    device : str
        Of the node that runs the job.
    time_limit : float, optional
        Seconds after which a job stops with a checkpoint and queues again; four hours if left out.
        Slurm counts in whole minutes.
    options : sequence of str
        What ``sbatch`` is told besides, such as ``"partition=gpu"`` and ``"gpus-per-node=1"``.
    echo : callable
        Takes one line of what was done.

    Returns
    -------
    list of submitit.Job

    Raises
    ------
    ValueError
        If the cluster, an option or the time limit is not as described.
    RuntimeError
        If submitit or Slurm is not there, or Slurm refuses the job.
    """
    root = Path(store or stores.default_store()).expanduser().absolute()
    lacking = missing(tasks, store, echo)
    make = _executors(cluster, TIME_LIMIT if time_limit is None else time_limit, options)
    queue = _queue() if cluster == "slurm" else set()
    waiting = [task for task in lacking if not _under_way(task[0], root, queue)]
    for name in sorted({recipe.name for recipe, _ in lacking} - {recipe.name for recipe, _ in waiting}):
        echo(f"{name} has a job already, or is being trained")
    threads = max(1, cores() // max(1, len(waiting))) if cluster == "local" else None
    jobs = []
    for recipe, images in waiting:
        place = root / "jobs" / stores.identity(recipe)
        for line in _last_words(place):
            echo(f"{recipe.name} FAILED: {line}")
        jobs.append(_submitted(make(place), Training(recipe, images, root, device, threads)))
        echo(f"{recipe.name} is job {jobs[-1].job_id}")
    if jobs:
        look = "squeue --me shows them, scancel and a job's number stop one" if cluster == "slurm" else "kill stops one"
        echo(f"submitted: {len(jobs)}. Logs are in {root / 'jobs'}; {look}; the same command tells what failed")
    return jobs


def _executors(cluster, time_limit, options):
    """A function that gives submitit's executor for a folder of logs."""
    if cluster not in CLUSTERS:
        raise ValueError(f"cluster must be one of {', '.join(CLUSTERS)}, got {cluster!r}")
    if not time_limit > 0:
        raise ValueError(f"the time limit must be positive, got {time_limit} seconds")
    try:
        import submitit
    except ImportError:
        raise RuntimeError("jobs of a cluster need submitit, which is not installed: pip install submitit") from None
    told = {"stderr_to_stdout": True, "signal_delay_s": int(min(90, time_limit / 10))}
    if cluster == "slurm":
        if not (shutil.which("sbatch") and shutil.which("srun")):
            raise RuntimeError("there is no Slurm here: neither sbatch nor srun is found; leave --cluster slurm out")
        kind = submitit.SlurmExecutor
        told |= {"time": math.ceil(time_limit / 60), "additional_parameters": {"requeue": True} | _sbatch(options)}
    else:
        if options:
            raise ValueError(f"--slurm {' '.join(options)} is for --cluster slurm")
        kind = submitit.LocalExecutor
        told["timeout_min"] = time_limit / 60

    def make(place):
        python = shlex.join([sys.executable, "-c", WAITING])
        executor = kind(place, max_num_timeout=TIMEOUTS[cluster], python=python)
        executor.update_parameters(**told, **({"job_name": place.name} if cluster == "slurm" else {}))
        return executor

    return make


def _sbatch(options):
    """``"partition=gpu"`` as ``{"partition": "gpu"}``; without a value it is a flag."""
    told = {}
    for option in options:
        found = re.fullmatch(r"([a-z][a-z_-]*)(?:=(.+))?", option)
        if found is None:
            raise ValueError(f"--slurm takes an option of sbatch such as partition=gpu, got {option!r}")
        name = found[1].replace("_", "-")
        if name in OURS:
            hint = "give --time-limit in seconds" if name == "time" else "leave it out"
            raise ValueError(f"--slurm {name}: gahb sets that itself; {hint}")
        told[name] = found[2] or True
    return told


def _submitted(executor, work):
    """The job; what submitit had written for one that Slurm refused is removed."""
    executor.folder.mkdir(parents=True, exist_ok=True)
    before = set(executor.folder.iterdir())
    try:
        return executor.submit(work)
    except RuntimeError as error:
        for file in set(executor.folder.iterdir()) - before:
            file.unlink()
        raise RuntimeError(f"Slurm refused the job of {work.recipe.name}: {' '.join(str(error).split())}") from None


def _queue():
    """Numbers of the user's Slurm jobs that wait or run."""
    done = subprocess.run(["squeue", "--me", "--noheader", "--format=%A"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"Slurm does not answer: {' '.join(done.stderr.split())}")
    return set(done.stdout.split())


def _under_way(recipe, root, queue):
    """Whether a job of a recipe waits or runs, or somebody trains it."""
    name = stores.identity(recipe)
    if {_number(file) for file in (root / "jobs" / name).glob("*_submitted.pkl")} & queue:
        return True
    if not (root / name / ".lock").exists():
        return False
    try:
        with stores.locked(root / name, wait=False):
            return False
    except RuntimeError:
        return True


def _last_words(place):
    """Why the last job of a denoiser ended, as a list of one line; empty if there was none."""
    logs = sorted(place.glob("*_0_log.out"), key=lambda file: file.stat().st_mtime)
    if not logs:
        return []
    lines = logs[-1].read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line.removeprefix(SAID) for line in lines if line.startswith(SAID)]
    return [f"job {_number(logs[-1])}: {said[-1] if said else f'it ended without a word; its log is {logs[-1]}'}"]


def _number(file):
    return file.name.partition("_")[0]
