"""Run the notebooks headless, and write the report."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from papermill.exceptions import PapermillExecutionError
from traitlets import default

from gahb._util.files import check_writable, write_text
from gahb._util.signals import interruptible
from gahb.companion import notebook, report, scales, tasks
from gahb.training.parallel import in_processes, train_all
from gahb.training.store import default_store, project

KERNEL = "python3"  # whatever name a notebook recorded
START_TIMEOUT = 300  # seconds


class OwnKernel(AsyncKernelManager):
    """The kernel of the running environment, also if JUPYTER_PATH or the user's folder has another ``python3``."""

    @default("kernel_spec_manager")
    def _without_folders(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


def notebooks(only: Sequence[str] | None = None) -> list[Path]:
    """The project's notebooks in order, or those whose names begin with one of ``only``."""
    if project() is None:
        raise FileNotFoundError(
            "the notebooks are not beside the installed package; clone the project and run `pip install -e .` there"
        )
    paths = sorted((project() / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not only:
        return paths
    wanted = [path for path in paths if path.name.startswith(tuple(only))]
    if not wanted:
        names = ", ".join(path.stem for path in paths)
        raise ValueError(f"--only {' '.join(only)} names no notebook; they are {names}")
    return wanted


@interruptible()
def reproduce(
    scale: str = "smoke",
    only: Sequence[str] | None = None,
    runs: str | Path | None = None,
    figures: str | Path | None = None,
    jobs: int | None = None,
    echo: Callable[[str], object] = print,
    **parameters: Any,
) -> list[str]:
    """Run notebooks at a scale, continue if one fails, and write the report.

    First the networks that the store lacks are trained, ``jobs`` at once (see :func:`gahb.companion.tasks.pick_jobs`),
    then as many notebooks run at once. ``runs`` and ``figures`` are the folders of executed notebooks and of figures,
    in which each scale has its own; ``parameters`` are those of the notebooks. Returns the names of those that failed.
    """
    begun, scale, paths = time.monotonic(), scales.get(scale), notebooks(only)
    figures = Path(figures or notebook.default_figures()).expanduser().resolve()
    name = scales.results(scale, parameters.get("faces"))
    runs, folder = Path(runs or project() / "runs").expanduser().resolve() / name, figures / name
    for place in (runs, folder):  # reported now, not after hours
        check_writable(place, "other folders with --figures and --runs")
    report.report(folder)  # fails now if the ledger is damaged
    parameters = _absolute(parameters | {"scale": scale.name, "figures": str(figures)})
    count = tasks.pick_jobs(scale, parameters.get("device", "auto"), jobs)
    if not only:
        _train_ahead(scale, parameters, count, echo)
    failed = []
    arguments = [(path, runs / path.name, parameters, scale.cell_timeout) for path in paths]
    for path, error, seconds in in_processes(_timed, arguments, min(count, len(paths))):
        if error:
            failed.append(path.stem)
            echo(f"{path.stem} FAILED after {seconds:.0f} s: {error}\n   see {runs / path.name}")
        else:
            echo(f"{path.stem} done in {seconds:.0f} s")
    write_text(folder / "report.md", report.report(folder))
    echo(f"report: {folder / 'report.md'} ({time.monotonic() - begun:.0f} s in all)")
    return sorted(failed)


def _train_ahead(scale: scales.Scale, parameters: dict[str, Any], jobs: int, echo: Callable[[str], object]) -> None:
    """Train all networks of the notebooks; one that cannot be trained fails again in its notebook, with the cause."""
    try:
        sources = parameters.get("faces"), parameters.get("scenes")
        wanted = tasks.of_scale(scale, (), *sources, parameters.get("seed", 0), parameters["store"])
        train_all(wanted, parameters["store"], parameters.get("device", "auto"), jobs, echo=echo)
    except (ValueError, OSError, RuntimeError) as error:
        echo(f"training ahead of the notebooks failed: {error}")


def _timed(path: Path, output: Path, parameters: dict[str, Any], timeout: int) -> tuple[Path, str | None, float]:
    begun = time.monotonic()
    error = run_notebook(path, output, parameters, timeout)
    return path, error, time.monotonic() - begun


def run_notebook(path: Path, output: Path, parameters: dict[str, Any], timeout: int) -> str | None:
    """Execute one notebook with those of ``parameters`` that it has; return what failed in one sentence, or None.

    A kernel that dies before the first cell, as some do where many start at once, is started once more.
    """
    failed, dead = _execute(path, output, parameters, timeout)
    return _execute(path, output, parameters, timeout)[0] if dead else failed


def _execute(path: Path, output: Path, parameters: dict[str, Any], timeout: int) -> tuple[str | None, bool]:
    """What failed, in one sentence, or None; and whether the kernel died before the first cell."""
    try:
        known = papermill.inspect_notebook(str(path))
        papermill.execute_notebook(
            str(path),
            str(output),
            {key: value for key, value in parameters.items() if key in known},
            kernel_name=KERNEL,
            kernel_manager_class=OwnKernel,
            language="python",
            progress_bar=False,
            start_timeout=START_TIMEOUT,
            execution_timeout=timeout,
            cwd=str(Path(output).parent),
            extra_arguments=["--log-level=CRITICAL"],  # no warnings of the kernel in the reader's log
        )
    except Exception as error:  # of a cell, or a kernel that dies, hangs or cannot start; the other notebooks still run
        of_cell = isinstance(error, PapermillExecutionError)
        name, text = (error.ename, error.evalue) if of_cell else (type(error).__name__, str(error))
        dead = isinstance(error, RuntimeError) and not of_cell and not _has_begun(output)
        return f"{name}: {text.strip().partition(chr(10))[0][:300]}", dead
    return None, False


def _has_begun(output: Path) -> bool:
    """Whether any cell of a notebook that papermill executed has begun."""
    cells = nbformat.read(output, as_version=4).cells if output.is_file() else []
    return any(cell.metadata.papermill.start_time for cell in cells)


def _absolute(parameters: dict[str, Any]) -> dict[str, Any]:
    """Make paths absolute, as notebooks run in another folder, and leave out what was not given."""
    parameters = {key: value for key, value in parameters.items() if value is not None}
    for key in ("faces", "scenes", "store", "denoiser", "model"):
        if key in parameters and parameters[key] != "lfw":
            parameters[key] = str(Path(parameters[key]).expanduser().resolve())
    parameters.setdefault("store", str(Path(default_store()).resolve()))
    return parameters
