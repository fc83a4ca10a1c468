"""Run the notebooks headless, and write the report."""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import papermill
from papermill.exceptions import PapermillExecutionError

from gahb._util.devices import cores
from gahb._util.files import check_writable, write_text
from gahb._util.signals import deaf_to_ctrl_c, end_with_parent, interruptible
from gahb.companion import notebook, report, scales
from gahb.training.parallel import end_all, train_all
from gahb.training.store import default_store, project

KERNEL = "python3"  # the one of the environment that runs this, whatever name a notebook recorded
START_TIMEOUT = 300  # seconds


def notebooks(only=None):
    """Paths of the project's notebooks, in order; those whose name begins with one of ``only``.

    Raises
    ------
    FileNotFoundError
        If the package was installed without the project's notebooks.
    ValueError
        If ``only`` names none.
    """
    if project() is None:
        raise FileNotFoundError(
            "the notebooks are not beside the installed package; clone the project and run `pip install -e .` there"
        )
    paths = sorted((project() / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not only:
        return paths
    wanted = [path for path in paths if any(path.name.startswith(prefix) for prefix in only)]
    if not wanted:
        names = ", ".join(path.stem for path in paths)
        raise ValueError(f"--only {' '.join(only)} names no notebook; they are {names}")
    return wanted


def reproduce(scale="smoke", only=None, runs=None, figures=None, jobs=None, echo=print, **parameters):
    """Run notebooks at a scale; go on after one that fails.

    What the store lacks is trained first, several at once; then the notebooks run, several at once.

    Parameters
    ----------
    scale : str
    only : sequence of str, optional
        Beginnings of the names of notebooks, such as ``"03"``.
    runs, figures : str or Path, optional
        Folders for the executed notebooks and the figures; ``runs`` and ``figures`` of the project
        if left out. Each scale has a folder of its own in them.
    jobs : int, optional
        How many to run at once; see :func:`gahb.companion.scales.pick_jobs`.
    echo : callable
        Takes one line of progress.
    **parameters
        ``faces``, ``scenes``, ``store``, ``device``, ``seed`` for all, ``denoiser`` for notebook 03.

    Returns
    -------
    list of str
        Names of the notebooks that failed.
    """
    with interruptible():
        return _reproduce(scale, only, runs, figures, jobs, echo, parameters)


def _reproduce(scale, only, runs, figures, jobs, echo, parameters):
    begun = time.monotonic()
    scale, paths = scales.get(scale), notebooks(only)
    figures = Path(figures or notebook.default_figures()).expanduser().resolve()
    name = scales.results(scale, parameters.get("faces"))
    runs, folder = Path(runs or project() / "runs").expanduser().resolve() / name, figures / name
    for place in (runs, folder):  # told now, not after hours
        check_writable(place, "other folders with --figures and --runs")
    report.report(folder)  # so is a damaged ledger
    parameters = _absolute(parameters | {"scale": scale.name, "figures": str(figures)})
    count = scales.pick_jobs(scale, parameters.get("device", "auto"), jobs)
    if not only:
        _train_ahead(scale, parameters, count, echo)
    failed = []
    arguments = [(path, runs / path.name, parameters, scale.cell_timeout) for path in paths]
    for path, (error, seconds) in zip(paths, _run_all(arguments, min(count, len(paths))), strict=True):
        if error:
            failed.append(path.stem)
            echo(f"{path.stem} FAILED after {seconds:.0f} s: {error}\n   see {runs / path.name}")
        else:
            echo(f"{path.stem} done in {seconds:.0f} s")
            report.notebook_page(runs / path.name, folder)
    write_text(folder / "report.md", report.report(folder))
    echo(f"report: {folder / 'report.md'} ({time.monotonic() - begun:.0f} s in all)")
    return failed


def _train_ahead(scale, parameters, jobs, echo):
    """Train all that the notebooks will ask for; what cannot be trained fails in its notebook, with its cause."""
    try:
        sources = parameters.get("faces"), parameters.get("scenes")
        tasks = scales.tasks(scale, (), *sources, parameters.get("seed", 0), parameters["store"])
        train_all(tasks, parameters["store"], parameters.get("device", "auto"), jobs, echo=echo)
    except (ValueError, OSError, RuntimeError) as error:
        echo(f"training ahead of the notebooks failed: {error}")


def _run_all(arguments, count):
    """Outcomes of :func:`_timed` in order, ``count`` at once; each in a process of its own event loop."""
    with _threads_of_kernels(max(1, cores() // count)):
        if count == 1:
            yield from (_timed(*each) for each in arguments)
            return
        with ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), end_with_parent) as pool:
            with deaf_to_ctrl_c():
                futures = [pool.submit(_timed, *each) for each in arguments]
            try:
                yield from (future.result() for future in futures)
            except BaseException:
                end_all(pool)  # each ends its kernel first
                raise


def _timed(path, output, parameters, timeout):
    """What :func:`run_notebook` returns, and the seconds that it took."""
    begun = time.monotonic()
    with interruptible():
        return run_notebook(path, output, parameters, timeout), time.monotonic() - begun


@contextmanager
def _threads_of_kernels(threads):
    """Kernels that start inside share the cores, instead of each taking them all; what the user has set stays."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    former = {name: os.environ.get(name) for name in names}
    share = former["OMP_NUM_THREADS"] or str(threads)  # the others follow it, as they do by themselves
    os.environ.update({name: former[name] or share for name in names})
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                os.environ.pop(name)


def run_notebook(path, output, parameters, timeout):
    """Execute one notebook with those of ``parameters`` that it has; None, or one sentence on what failed."""
    try:
        known = papermill.inspect_notebook(str(path))
        chosen = {key: value for key, value in parameters.items() if key in known}
        papermill.execute_notebook(
            str(path),
            str(output),
            chosen,
            kernel_name=KERNEL,
            language="python",
            progress_bar=False,
            start_timeout=START_TIMEOUT,
            execution_timeout=timeout,
            cwd=str(Path(output).parent),
            extra_arguments=["--log-level=CRITICAL"],  # of the kernel: no warnings that are none of a reader's business
        )
    except PapermillExecutionError as error:
        return _one_line(error.ename, error.evalue)
    except Exception as error:  # a kernel that dies, hangs or cannot start; the others go on
        return _one_line(type(error).__name__, error)
    return None


def _one_line(name, text):
    first = next(iter(str(text).strip().splitlines()), "")
    return f"{name}: {first[:300]}"


def _absolute(parameters):
    """Paths as seen from where the command was given: notebooks run in another folder."""
    parameters = {key: value for key, value in parameters.items() if value is not None}
    for key in ("faces", "scenes", "store", "denoiser"):
        if key in parameters and parameters[key] != "lfw":
            parameters[key] = str(Path(parameters[key]).expanduser().resolve())
    parameters.setdefault("store", str(Path(default_store()).resolve()))
    return parameters
