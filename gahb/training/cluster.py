"""Train networks as jobs of a Slurm cluster, one each, through `submitit`; or, to try it, as processes of this machine.

All nodes must see the store. A job that is preempted or reaches its time limit queues again and resumes from its
last checkpoint, with the same result bit for bit. Logs are in ``<store>/jobs/<network>/``.
"""

import math
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gahb._util import checks
from gahb._util.devices import cores, keep_freed_memory
from gahb._util.signals import interruptible
from gahb.training import store as stores
from gahb.training.parallel import Task, missing
from gahb.training.recipe import Recipe

TIME_LIMIT = 4 * 3600.0  # seconds; short jobs start sooner, and a job queues again after it
# Since Slurm 22.05 srun no longer takes --cpus-per-task from sbatch: a job would have one core.
SRUN_CPUS = 'if [ -n "$SLURM_CPUS_PER_TASK" ]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi'
TIMEOUTS = {"slurm": 1_000, "local": 5}  # how often a job queues again; submitit runs a local job 6 times


@dataclass(frozen=True)
class Training:
    """What a job does; submitit pickles it, with the training images."""

    recipe: Recipe
    images: Tensor | None
    store: Path
    device: str
    threads: int | None = None

    def __call__(self) -> None:
        """Train. A signal of the cluster goes to submitit's handler, which queues the job again and ends it."""
        import submitit

        environment = submitit.JobEnvironment()
        torch.set_num_threads(self.threads or min(int(os.environ.get("SLURM_CPUS_ON_NODE", cores())), cores()))
        keep_freed_memory()
        # Slurm also announces a preemption by SIGTERM, which must not end the job; a local job is stopped by it.
        stoppable = interruptible() if environment.cluster == "local" else nullcontext()
        with stoppable:
            stores.load_or_train(self.recipe, self.images, self.store, self.device)
        for submitted in environment.paths.folder.glob("*_submitted.pkl"):
            submitted.unlink(missing_ok=True)  # it holds the images, which are no longer needed

    def checkpoint(self) -> Any:
        """The work of a job that has queued again: the same, as the store holds its checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(
    tasks: Sequence[Task],
    cluster: str,
    store: str | Path | None = None,
    device: str = "auto",
    time_limit: float = TIME_LIMIT,
    options: Sequence[str] = (),
    echo: Callable[[str], object] = print,
) -> list[Any]:
    """Submit a job for each network that the store lacks and that no job is training.

    Returns the jobs without waiting for them. Called again, it reports why jobs failed, and submits those again.
    ``cluster`` is ``"slurm"``, or ``"local"``: processes of this machine, all started at once. After ``time_limit``
    seconds a job stops with a checkpoint and queues again; Slurm counts whole minutes. ``options`` are more options of
    ``sbatch``, such as ``"partition=gpu"``.
    """
    root = Path(store or stores.default_store()).expanduser().absolute()
    lacking = missing(tasks, store, echo)
    checks.choice(cluster, "cluster", tuple(TIMEOUTS))
    checks.positive(time_limit, "time_limit")
    queue = _slurm_queue() if cluster == "slurm" else set()
    chosen = [task for task in lacking if not _under_way(task[0], root, queue)]
    for name in sorted({recipe.name for recipe, _ in lacking} - {recipe.name for recipe, _ in chosen}):
        echo(f"{name} already has a job")
    threads = max(1, cores() // max(1, len(chosen))) if cluster == "local" else None
    jobs = []
    for recipe, images in chosen:
        folder = root / "jobs" / stores.identity(recipe)
        if reason := _failure(folder):
            echo(f"{recipe.name} FAILED: {reason}")
        executor = _executor(cluster, folder, time_limit, options)
        try:
            with _outside_of_jobs():
                jobs.append(executor.submit(Training(recipe, images, root, device, threads)))
        except RuntimeError as error:
            raise RuntimeError(f"Slurm refused the job of {recipe.name}: {' '.join(str(error).split())}") from None
        echo(f"{recipe.name} is job {jobs[-1].job_id}")
    if jobs:
        hint = "squeue --me lists them, scancel NUMBER stops one" if cluster == "slurm" else "kill NUMBER stops one"
        echo(f"submitted: {len(jobs)}. Logs are in {root / 'jobs'}; {hint}; the same command reports failures")
    return jobs


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Inside, no variable of the job that submits reaches the new one; what users and sites set for sbatch stays."""
    from submitit.helpers import clean_env

    kept = {name: value for name, value in os.environ.items() if name.startswith("SBATCH_") or name == "SLURM_CONF"}
    with clean_env():
        os.environ.update(kept)
        yield


def _executor(cluster: str, folder: Path, time_limit: float, options: Sequence[str]) -> Any:
    """The executor of submitit that writes into a folder, whose name is that of the job."""
    try:
        import submitit
    except ImportError:
        raise RuntimeError("jobs of a cluster need submitit, which is not installed: pip install submitit") from None
    kind = submitit.SlurmExecutor if cluster == "slurm" else submitit.LocalExecutor
    settings: dict[str, Any] = {"stderr_to_stdout": True, "signal_delay_s": int(min(90, time_limit / 10))}
    if cluster == "slurm":
        pairs = (option.partition("=") for option in options)
        others: dict[str, Any] = {"requeue": True} | {name: value or True for name, _, value in pairs}
        settings |= {"time": math.ceil(time_limit / 60), "job_name": folder.name, "additional_parameters": others}
        settings["setup"] = [SRUN_CPUS]
    else:
        settings["timeout_min"] = time_limit / 60
    made = kind(folder, max_num_timeout=TIMEOUTS[cluster])
    made.update_parameters(**settings)
    return made


def _slurm_queue() -> set[str]:
    """Numbers of the user's Slurm jobs that wait or run."""
    command = ["squeue", "--me", "--noheader", "--format=%A"]
    try:
        return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    except FileNotFoundError:
        raise RuntimeError("there is no Slurm here: squeue is not found; leave out --cluster slurm") from None
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"Slurm does not answer: {' '.join(error.stderr.split())}") from None


def _under_way(recipe: Recipe, root: Path, queue: set[str]) -> bool:
    """Whether a job of a recipe waits or runs."""
    submitted = (root / "jobs" / stores.identity(recipe)).glob("*_submitted.pkl")
    return not queue.isdisjoint(_number(file) for file in submitted)


def _failure(folder: Path) -> str | None:
    """Why the last job of a network ended: the last line of its log; None if there was no job."""
    logs = sorted(folder.glob("*_0_log.out"), key=lambda file: file.stat().st_mtime)
    if not logs:
        return None
    lines = logs[-1].read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line for line in lines if line.strip() and not line.startswith("srun: ")]  # srun gives only a status
    return f"job {_number(logs[-1])}: {said[-1] if said else 'it wrote nothing'} (log: {logs[-1]})"


def _number(file: Path) -> str:
    return file.name.partition("_")[0]
