"""Train many networks, several at once."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from gahb._util.devices import cores, keep_freed_memory
from gahb._util.signals import deaf_to_ctrl_c, end_with_parent, interruptible
from gahb.training import store as stores
from gahb.training.loop import TrainingFailed, TrainingStopped
from gahb.training.recipe import Recipe

Task = tuple[Recipe, Tensor | None]  # a recipe and its training images; None: those of its generator
Result = TypeVar("Result")
Outcome = tuple[str, str]  # how a training ended (done, stopped or failed), and a sentence that says so


def missing(tasks: Iterable[Task], store: str | Path | None, echo: Callable[[str], object]) -> list[Task]:
    """The tasks whose networks neither the store nor the package has; says how many are there."""
    tasks = list(tasks)
    lacking = [task for task in tasks if not stores.has(task[0], store)]
    echo(f"{len(tasks) - len(lacking)} of {len(tasks)} networks are in the store")
    return lacking


def train_all(
    tasks: Sequence[Task],
    store: str | Path | None = None,
    device: str = "auto",
    jobs: int = 1,
    time_limit: float | None = None,
    echo: Callable[[str], object] = print,
) -> bool:
    """Train the networks that the store lacks, in ``jobs`` processes at once; return whether all are there now.

    After ``time_limit`` seconds in all, the trainings stop with checkpoints. A training that fails is a RuntimeError,
    raised after the others have ended.
    """
    deadline = None if time_limit is None else time.time() + time_limit
    lacking = missing(tasks, store, echo)
    jobs = min(jobs, len(lacking))
    arguments = [(task, store, device, deadline, jobs <= 1) for task in lacking]
    with interruptible():
        endings = []
        for ending, line in in_processes(_train_one, arguments, jobs):
            endings.append(ending)
            echo(line)
    failed = endings.count("failed")
    if failed:
        raise RuntimeError(f"{failed} of {len(lacking)} trainings failed; what the others trained is in the store")
    return endings.count("done") == len(lacking)


def _train_one(task: Task, store: str | Path | None, device: str, deadline: float | None, progress: bool) -> Outcome:
    recipe, images = task
    left = None if deadline is None else deadline - time.time()
    if left is not None and left <= 0:
        return "stopped", f"{recipe.name} was not started: time limit"
    begun = time.monotonic()
    try:
        stores.load_or_train(recipe, images, store, device, progress, left)
    except TrainingStopped as stopped:
        return "stopped", str(stopped)
    except TrainingFailed as error:  # only this network's; an error such as a full disk ends them all
        return "failed", f"{recipe.name} FAILED: {error}"
    return "done", f"{stores.identity(recipe)} trained in {time.monotonic() - begun:.0f} s"


def in_processes(function: Callable[..., Result], arguments: Sequence[tuple], jobs: int) -> Iterator[Result]:
    """Results of ``function(*each)`` as they end, in ``jobs`` processes that share the cores; in this one if it is 1.

    If the caller is interrupted, the processes are ended by SIGTERM, which raises KeyboardInterrupt in them.
    """
    if jobs <= 1:
        yield from (function(*each) for each in arguments)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process that has used torch can hang
    with ProcessPoolExecutor(jobs, context, _begin, (max(1, cores() // jobs),)) as pool:
        with deaf_to_ctrl_c():
            futures = [pool.submit(_interruptibly, function, each) for each in arguments]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise RuntimeError(
                "a process died, perhaps for lack of memory; what was trained is kept: resume with --jobs 1"
            ) from None
        except BaseException:
            end_all(pool)  # a training writes its checkpoint first, a notebook ends its kernel
            raise


def end_all(pool: ProcessPoolExecutor) -> None:
    """Start nothing more in a pool, and end its processes by SIGTERM; other children of this process are left alone."""
    workers = list((pool._processes or {}).values())  # shutdown forgets them
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()


def _begin(threads: int) -> None:
    end_with_parent()
    keep_freed_memory()
    torch.set_num_threads(threads)
    threads_of_kernels = os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    for name in ("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, threads_of_kernels)


def _interruptibly(function: Callable[..., Result], arguments: tuple) -> Result:
    with interruptible():
        return function(*arguments)
