"""Run the notebooks headless, one after the other, and write the report."""

import time
from pathlib import Path

import papermill
from papermill.exceptions import PapermillExecutionError

from gahb import notebook, report, scales
from gahb._files import write_text
from gahb.store import default_store, project

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


def reproduce(scale="smoke", only=None, runs=None, figures=None, echo=print, **parameters):
    """Run notebooks at a scale; go on after one that fails.

    Parameters
    ----------
    scale : str
    only : sequence of str, optional
        Beginnings of the names of notebooks, such as ``"03"``.
    runs, figures : str or Path, optional
        Folders for the executed notebooks and the figures; ``runs`` and ``figures`` of the project
        if left out. Each scale has a folder of its own in them.
    echo : callable
        Takes one line of progress.
    **parameters
        ``faces``, ``scenes``, ``store``, ``device``, ``seed`` for all, ``denoiser`` for notebook 03.

    Returns
    -------
    list of str
        Names of the notebooks that failed.
    """
    scale = scales.get(scale)
    paths = notebooks(only)
    figures = Path(figures or notebook.default_figures()).expanduser().resolve()
    runs = Path(runs or project() / "runs").expanduser().resolve() / scale.name
    runs.mkdir(parents=True, exist_ok=True)
    parameters = _absolute(parameters | {"scale": scale.name, "figures": str(figures)})
    failed, begun = [], time.monotonic()
    for path in paths:
        seconds = time.monotonic()
        error = run_notebook(path, runs / path.name, parameters, scale.cell_timeout)
        seconds = time.monotonic() - seconds
        if error:
            failed.append(path.stem)
            echo(f"{path.stem} FAILED after {seconds:.0f} s: {error}\n   see {runs / path.name}")
        else:
            echo(f"{path.stem} done in {seconds:.0f} s")
    folder = figures / scale.name
    write_text(folder / "report.md", report.report(folder))
    echo(f"report: {folder / 'report.md'} ({time.monotonic() - begun:.0f} s in all)")
    return failed


def run_notebook(path, output, parameters, timeout):
    """Execute one notebook with those of ``parameters`` that it has; None, or one sentence on what failed."""
    known = papermill.inspect_notebook(str(path))
    chosen = {key: value for key, value in parameters.items() if key in known}
    try:
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
            extra_arguments=["--log-level=ERROR"],  # of the kernel: no warnings that are none of a reader's business
        )
    except PapermillExecutionError as error:
        return f"{error.ename}: {error.evalue}"
    except Exception as error:  # a kernel that dies, hangs or cannot start; the others go on
        return f"{type(error).__name__}: {error}"
    return None


def _absolute(parameters):
    """Paths as seen from where the command was given: notebooks run in another folder."""
    parameters = {key: value for key, value in parameters.items() if value is not None}
    for key in ("faces", "scenes", "store", "denoiser"):
        if key in parameters and parameters[key] != "lfw":
            parameters[key] = str(Path(parameters[key]).expanduser().resolve())
    parameters.setdefault("store", str(Path(default_store()).resolve()))
    return parameters
