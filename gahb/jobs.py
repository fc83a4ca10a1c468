"""Train the denoisers of a scale, several at once where that is faster."""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

from gahb import scales
from gahb import store as stores
from gahb._machine import deaf_to_ctrl_c, end_with_parent, interruptible, pick_device
from gahb.training import TrainingFailed, TrainingStopped


def cores():
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pick_jobs(scale, device, jobs=None):
    """How many denoisers to train at once: ``jobs`` if given, else one a core on a CPU, one on a GPU.

    A small network keeps one core busy and gains little from more; at ``paper`` scale one training
    takes all the memory and all the cores.
    """
    if jobs is not None:
        if jobs < 1:
            raise ValueError(f"jobs must be at least 1, got {jobs}")
        return jobs
    return cores() if scale.parallel and pick_device(device).type == "cpu" else 1


def chosen_recipes(scale, only=(), faces=None, scenes=None, seed=0, store=None):
    """The recipes of a scale whose names are, or begin with, one of ``only`` (all, if it is empty).

    A whole name is that denoiser alone: ``faces-S1-N1`` is not ``faces-S1-N10``.
    The photographs, once prepared, are kept in the store, where the notebooks find them.
    """
    cache = Path(store or stores.default_store()) / "photographs"
    names = scales.names(scale)
    chosen = [name for name in names if stores.is_named(name, only, names)]
    if not chosen:
        raise ValueError(f"--only {' '.join(only)} names no denoiser of {scale.name}; they are {', '.join(names)}")
    needs = {kind: any(name.startswith(of) for name in chosen) for kind, of in scales.OF_PHOTOGRAPHS.items()}
    faces = scales.faces(scale, faces, cache) if needs["faces"] else None
    scenes = scales.scenes(scale, scenes, cache) if needs["scenes"] else None
    recipes = scales.recipes(scale, faces, scenes, seed)
    return [recipe for recipe in recipes if recipe.name in chosen]


def lacking(recipes, store, echo):
    """Those of some recipes that the store lacks; says how many it has."""
    missing = [recipe for recipe in recipes if not stores.has(recipe, store)]
    echo(f"{len(recipes) - len(missing)} of {len(recipes)} denoisers are in the store")
    return missing


def train_all(recipes, store=None, device="auto", jobs=1, time_limit=None, echo=print):
    """Train those of some recipes that the store lacks; at the time limit stop with checkpoints.

    Parameters
    ----------
    recipes : list of Recipe
    store : str or Path, optional
        The store.
    device : str
    jobs : int
        Number of processes that train at once; they share the cores evenly.
    time_limit : float, optional
        Seconds, for all together.
    echo : callable
        Takes one line of progress.

    Returns
    -------
    bool
        Whether all are in the store now; False at the time limit.

    Raises
    ------
    RuntimeError
        If a training failed, after the others have ended, or if a process died.
    """
    deadline = None if time_limit is None else time.time() + time_limit
    missing = lacking(recipes, store, echo)
    arguments = [(recipe, store, device, deadline) for recipe in missing]
    with interruptible():
        if min(jobs, len(missing)) > 1:
            outcomes = _in_processes(arguments, min(jobs, len(missing)))
        else:
            outcomes = (_train_one(*each, progress=True) for each in arguments)
        endings = []
        for ending, line in outcomes:
            endings.append(ending)
            echo(line)
    failed = endings.count("failed")
    if failed:
        raise RuntimeError(f"{failed} of {len(missing)} trainings failed; what the others trained is in the store")
    return endings.count("done") == len(missing)


def _train_one(recipe, store, device, deadline, progress=False):
    """Train one; how it ended (done, stopped or failed), and a line that says so."""
    left = None if deadline is None else deadline - time.time()
    if left is not None and left <= 0:
        return "stopped", f"{recipe.name} was not begun: time limit"
    begun = time.monotonic()
    try:
        stores.trained(recipe, store, device, progress=progress, time_limit=left)
    except TrainingStopped as stopped:
        return "stopped", str(stopped)
    except TrainingFailed as error:  # of this denoiser alone; a full disk, say, would end them all
        return "failed", f"{recipe.name} FAILED: {error}"
    return "done", f"{stores.identity(recipe)} trained in {time.monotonic() - begun:.0f} s"


def _in_processes(arguments, jobs):
    """As :func:`_train_one` for each, in ``jobs`` processes, as they come."""
    threads = max(1, cores() // jobs)
    context = multiprocessing.get_context("spawn")  # a fork of a process that has used torch can hang
    with ProcessPoolExecutor(jobs, context, _begin, (threads,)) as pool:
        with deaf_to_ctrl_c():
            futures = [pool.submit(_train_in_process, *each) for each in arguments]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise RuntimeError(
                "a process that trained died, perhaps for want of memory; checkpoints are kept: go on with --jobs 1"
            ) from None
        except BaseException:
            end_all(pool)  # each writes its checkpoint first
            raise


def end_all(pool):
    """End the processes of a pool by SIGTERM, and begin nothing more."""
    pool.shutdown(wait=False, cancel_futures=True)
    for child in multiprocessing.active_children():
        child.terminate()


def _begin(threads):
    end_with_parent()
    torch.set_num_threads(threads)


def _train_in_process(*each):
    with interruptible():
        return _train_one(*each)
