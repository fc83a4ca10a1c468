"""Where the time of the seven notebooks goes: kernels, imports, training, Jacobians, sampling, drawing.

Each notebook's code runs under Python's profiler in its own process, one after another with the same store. The time
of what a notebook calls directly is counted by the module that it calls.
"""

import cProfile
import json
import pstats
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
KINDS = {  # of the module that a notebook calls
    "jacobians.py": "Jacobians",
    "bases.py": "Jacobians",
    "sampling.py": "sampling",
    "metrics.py": "evaluation",
    "rivals.py": "evaluation",
    "optimal.py": "evaluation",
    "locality.py": "evaluation",
    "plotting.py": "drawing",
}


def code(notebook, **parameters):
    """The code of a notebook, with its parameters replaced."""
    import jupytext

    cells = [cell for cell in jupytext.read(notebook).cells if cell.cell_type == "code"]
    given = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    return "\n".join(cell.source + "\n" + given * ("parameters" in cell.metadata.get("tags", [])) for cell in cells)


def kind(file, name):
    """What a function that a notebook calls spends its time on."""
    if name in ("_find_and_load", "_handle_fromlist"):
        return "imports"
    if name == "decorate_context":  # torch.no_grad: of what notebooks call, only gahb.sample has it
        return "sampling"
    if name == "network" and Path(file).name == "notebook.py":
        return "training"
    if name == "save" or "matplotlib" in file:
        return "drawing"
    return KINDS.get(Path(file).name if "gahb" in file else "", "the rest")


def profiled(notebook, folder):
    """Seconds of each kind in one notebook, run in this process."""
    import matplotlib

    matplotlib.use("Agg")
    text = code(notebook, scale="smoke", store=f"{folder}/store", figures=f"{folder}/figures", device="cpu")
    profile, begun = cProfile.Profile(), time.perf_counter()
    space = {"__name__": "__main__"}
    profile.runctx(compile(text, "<notebook>", "exec"), space, space)
    whole, times = time.perf_counter() - begun, Counter()
    for (file, _, name), (*_, callers) in pstats.Stats(profile).stats.items():
        for (caller, _, _), (*_, seconds) in callers.items():
            if caller == "<notebook>" and file != "<notebook>":
                times[kind(file, name)] += seconds
    times["the rest"] += whole - sum(times.values())
    return dict(times)


def kernel():
    """Seconds to start a Jupyter kernel, run an empty cell, and end the kernel."""
    import nbformat
    from nbclient import NotebookClient

    begun = time.perf_counter()
    empty = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("0")])
    NotebookClient(empty, extra_arguments=["--log-level=CRITICAL"]).execute()  # as gahb reproduce starts them
    return time.perf_counter() - begun


def table():
    """Seconds of each kind in each notebook at smoke scale, as a Markdown table."""
    start, rows = kernel(), {}
    with tempfile.TemporaryDirectory() as folder:
        for notebook in sorted(NOTEBOOKS.glob("*.py")):
            command = [sys.executable, __file__, str(notebook), folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows[notebook.stem] = {"kernel": start} | json.loads(done.stdout.splitlines()[-1])
    kinds = ["kernel", "imports", "training", "Jacobians", "sampling", "evaluation", "drawing", "the rest"]
    rows["in all"] = {key: sum(row.get(key, 0) for row in rows.values()) for key in kinds}
    lines = ["| seconds | " + " | ".join(kinds) + " | in all |", "|---|" + "---:|" * (len(kinds) + 1)]
    for name, row in rows.items():
        cells = [*(row.get(key, 0) for key in kinds), sum(row.values())]
        lines.append(f"| {name} | " + " | ".join(f"{value:.1f}" for value in cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(json.dumps(profiled(*sys.argv[1:3])))
