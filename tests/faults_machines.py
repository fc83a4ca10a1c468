"""Rows of the table of faults: paths, JupyterLab, papermill, matplotlib, clusters, containers, cards and kernels."""

import io
import os
import subprocess
import sys
from contextlib import chdir, contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import torch
from faults_photographs import PIXELS
from helpers import exits, get, leads_to, pixels, recipe, refused

from gahb._util import devices
from gahb.companion import notebook, plotting
from gahb.companion.reproduce import run_notebook
from gahb.datasets import faces
from gahb.datasets.survey import check_absent
from gahb.released import load_released
from gahb.training import compile, store
from gahb.training.cluster import submit

# --- Files and paths --------------------------------------------------------------------------------------------------


def no_modes(tmp_path):
    """As CIFS and mounted buckets refuse chmod."""
    with patch.object(Path, "chmod", side_effect=PermissionError(1, "Operation not permitted")):
        get(tmp_path)
    return [row["recipe"]["name"] for row in store.stored(tmp_path)]


@contextmanager
def home(folder):
    with patch.dict(os.environ, {"HOME": str(folder)}):
        yield


def from_home(use):
    """What ``use(a path that begins with ~)`` returns, of a file of images and of a store at home."""

    def provoke(tmp_path):
        np.save(tmp_path / "a.npy", PIXELS)
        (tmp_path / "model.pt").write_text("<html>")
        with home(tmp_path):
            return use("~/")

    return provoke


def in_store(path):
    get(path + "store")
    network = store.load(path + "store/" + store.identity(recipe()))
    return (
        network is not None
        and store.has(recipe(), path + "store")
        and Path(path).expanduser().joinpath("store").is_dir()
    )


def option_of(command):
    """Shells leave a ~ after = as it is."""

    def provoke(tmp_path):
        (tmp_path / "store").mkdir()
        np.save(tmp_path / "a.npy", PIXELS)
        os.environ["HOME"] = str(tmp_path)
        return command.split()

    def check(expected):
        def inside(provoke, folder):
            with patch.dict(os.environ):
                expected(provoke, folder)

        return inside

    return provoke, check


def started(**parameters):
    return lambda tmp_path: notebook.start("test", store=tmp_path, figures=tmp_path, device="cpu", **parameters)


def beside_a_notebook(tmp_path):
    """What is printed of relative folders, typed where the kernel runs."""
    with patch("builtins.print") as said, chdir(tmp_path):
        notebook.start("test", store="s", figures="f", device="cpu")
        notebook.start("test", store=tmp_path, figures=tmp_path, device="cpu")
    return [call.args[0].replace(str(tmp_path), "HERE") for call in said.call_args_list]


def after_cells(*cells):
    """Start a notebook after these cells."""

    def provoke(tmp_path):
        shell = SimpleNamespace(user_ns={"In": ["", *cells]})
        for cell in cells:
            exec(cell, shell.user_ns)
        with patch.object(notebook, "get_ipython", lambda: shell):
            return started()(tmp_path).scale.name

    return provoke


PATHS = "# Parameters\nPAPERMILL_INPUT_PATH = 'a'\nPAPERMILL_OUTPUT_PATH = 'b'\n"
GONE = "there is no folder or file /.*here/{}; give"
NUMBER = r"file /.*/202401; give .*; papermill read 202401 as a number .*: -r faces PATH is text"
HOMES = [
    ("~: faces", from_home(lambda home: faces(home + "a.npy", 16, 2, 1).manifest["found"]), leads_to(6)),
    (
        "~: cache",
        from_home(lambda home: faces(home + "a.npy", 16, 2, 1, home + "c") and Path(home + "c").expanduser().is_dir()),
        leads_to(True),
    ),
    (
        "~: released network",
        from_home(lambda home: load_released(home + "model.pt")),
        refused(ValueError, "it is a web page"),
    ),
    ("~: store", from_home(in_store), leads_to(True)),
    (
        "~: contact sheet",
        from_home(lambda home: check_absent(home + "a.npy")),
        refused(FileExistsError, "exists already"),
    ),
]
for command, status, sentence in (
    ("list --store=~/store", 0, ""),
    ("train --faces=~/a.npy --only faces", 1, "faces: a.npy has 6 usable"),
    ("reproduce --denoiser=~/no.pt", 1, "denoiser: there is no folder or file /.*here/no.pt; give"),
    ("claims --figures=~/f", 1, "there is no ledger in /.*here/f/smoke"),
):
    provoke, inside = option_of(command)
    HOMES.append((f"~: {command}", provoke, inside(exits(status, sentence))))
JUPYTER = [
    ("store: modes cannot be changed", no_modes, leads_to(["tiny"])),
    *HOMES,
    (
        "relative: faces in a notebook",
        lambda folder: relative(folder, lambda: started(faces="my_faces")(folder)),
        refused(FileNotFoundError, "faces: " + GONE.format("my_faces")),
    ),
    (
        "relative: faces in Python",
        lambda folder: relative(folder, lambda: faces("my_faces")),
        refused(FileNotFoundError, "faces: " + GONE.format("my_faces")),
    ),
    (
        "relative: a released network",
        lambda folder: relative(folder, lambda: load_released("m.pt")),
        refused(FileNotFoundError, "denoiser: " + GONE.format("m.pt")),
    ),
    ("relative: folders in a notebook", beside_a_notebook, leads_to(["store: HERE/s", "figures: HERE/f/smoke"])),
    ("papermill: 2024_01 as a number", started(faces=202401), refused(FileNotFoundError, NUMBER)),
    ("papermill: True", started(scenes=True), refused(FileNotFoundError, "read True as .* -r scenes PATH is text")),
    (
        "papermill: a released network as a number",
        lambda folder: load_released(202401),
        refused(TypeError, "got 202401; papermill passes text by -r denoiser PATH"),
    ),
    ("papermill: --inject-paths", after_cells("scale = 'smoke'", PATHS + "scale = 'smoke'"), leads_to("smoke")),
    (
        "papermill: misspelt",
        after_cells("scale = 'smoke'", PATHS + "sclae = 'laptop'\nx = 3"),
        refused(ValueError, "unknown parameter sclae, x; the parameters are scale"),
    ),
    ("own names in early cells", after_cells("x = 3", "scale = 'smoke'\nmy_faces = 'a'"), leads_to("smoke")),
]


def relative(folder, use):
    with chdir(folder):
        return use()


# --- Settings, clusters, containers, cards ----------------------------------------------------------------------------


def with_latex(tmp_path):
    """A figure with the settings of somebody who writes articles, without LaTeX."""
    with plt.rc_context(), patch.dict(os.environ, PATH=""):
        plt.rcParams.update({"text.usetex": True, "savefig.dpi": 7, "figure.autolayout": True, "axes.grid": True})
        plotting.style()
        fig = plotting.new(1, 1)
        fig.subplots().set_title("$x$")
        fig.savefig(tmp_path / "a.png")
        plt.close(fig)
        return plt.rcParams["text.usetex"], plt.rcParams["axes.grid"], plt.rcParams["figure.autolayout"]


OUTER = {
    "SLURM_JOB_ID": "1",
    "SLURM_MEM_PER_NODE": "9",
    "SRUN_CPUS_PER_TASK": "3",
    "SBATCH_ACCOUNT": "me",
    "SLURM_CONF": "/c",
}


def from_inside_a_job(tmp_path):
    """What sbatch sees of the environment, and what a job with 8 cores sets for srun."""
    (tmp_path / "bin").mkdir()
    for name, text in {
        "sbatch": f"env > {tmp_path}/env; echo Submitted batch job 17",
        "srun": "",
        "squeue": "",
    }.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    with patch.dict(os.environ, OUTER | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}):
        submit([(recipe(), pixels())], "slurm", tmp_path / "store", options=["cpus-per-task=8"], echo=lambda line: None)
        assert OUTER.items() <= os.environ.items()
    seen = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines() if "=" in line)
    script = next((tmp_path / "store").rglob("17_submission.sh")).read_text()
    setup = script[script.index("# setup") : script.index("\nsrun ")] + '\necho "$SRUN_CPUS_PER_TASK"'
    cores = [
        subprocess.run(["/bin/sh", "-c", setup], env=given, capture_output=True, text=True, check=True).stdout.strip()
        for given in ({"SLURM_CPUS_PER_TASK": "8"}, {})
    ]
    return sorted(OUTER.keys() & seen.keys()), cores


def in_a_container(quota):
    """Cores of a container with a quota of CPU time on a host of 64."""

    def provoke(tmp_path):
        files = {"/sys/fs/cgroup/cpu.max": quota}
        exists, read = os.path.exists, open
        with (
            patch("os.cpu_count", lambda: 64),
            patch("os.sched_getaffinity", lambda pid: set(range(64)), create=True),
            patch("os.path.exists", lambda path: path in files or exists(path)),
            patch(
                "builtins.open",
                lambda path, *a, **k: io.StringIO(files[path]) if path in files else read(path, *a, **k),
            ),
        ):
            return devices.cores()

    return provoke


def old_card(use):
    def provoke(tmp_path):
        devices._cuda_fault.cache_clear()
        fault = RuntimeError("CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors")
        ones = torch.ones
        with (
            patch("torch.cuda.is_available", lambda: True),
            patch("torch.cuda.device_count", lambda: 1),
            patch(
                "torch.ones",
                lambda *a, **k: exec("raise fault", {"fault": fault}) if k.get("device") == "cuda" else ones(*a, **k),
            ),
        ):
            try:
                return str(use())
            finally:
                devices._cuda_fault.cache_clear()

    return provoke


def nobody(tmp_path):
    """A container whose user has no entry in passwd: torch asks for its name when it compiles."""
    compile.works.cache_clear()
    with patch("torch.compile", side_effect=KeyError("getpwuid(): uid not found: 12345")):
        try:
            return compile.works(torch.device("cpu"))
        finally:
            compile.works.cache_clear()


# --- Kernels ----------------------------------------------------------------------------------------------------------


def executed(tmp_path, *cells):
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(nb, tmp_path / "n.ipynb")
    return run_notebook(tmp_path / "n.ipynb", tmp_path / "out.ipynb", {}, 120)


def foreign_kernel(tmp_path):
    """Another environment's python3, which JUPYTER_PATH finds first."""
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text('{"argv": ["false"], "display_name": "Other", "language": "python"}')
    with patch.dict(os.environ, JUPYTER_PATH=str(tmp_path)):
        failed = executed(tmp_path, f"import sys; assert sys.executable == {sys.executable!r}")
    return failed


def dying(times, cells):
    """A kernel that dies when it starts, this many times."""

    def provoke(tmp_path):
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "sitecustomize.py").write_text(
            "import os, pathlib, sys\n"
            f"deaths = pathlib.Path({str(tmp_path / 'deaths')!r})\n"
            "if 'ipykernel_launcher' in ' '.join(sys.orig_argv):\n"
            "    n = len(deaths.read_text()) if deaths.exists() else 0\n"
            "    deaths.write_text('x' * (n + 1))\n"
            f"    n < {times} and os._exit(1)\n"
        )
        path = f"{tmp_path / 'site'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        with patch.dict(os.environ, PYTHONPATH=path):
            failed = executed(tmp_path, *cells)
        return failed and failed.partition(":")[0], len((tmp_path / "deaths").read_text())

    return provoke


CARD = (
    r"the GPU is not used, as torch cannot compute on it \(CUDA error: no kernel image is .* the device\); the CPU is"
)
MACHINES = [
    *JUPYTER,
    ("matplotlibrc: usetex without LaTeX", with_latex, leads_to((False, False, False))),
    (
        "slurm: submitted from inside a job",
        from_inside_a_job,
        leads_to((["SBATCH_ACCOUNT", "SLURM_CONF"], ["8", ""])),
    ),
    ("container: quota of 2 cores of 64", in_a_container("200000 100000\n"), leads_to(2)),
    ("container: half a core", in_a_container("50000 100000\n"), leads_to(1)),
    ("container: no quota", in_a_container("max 100000\n"), leads_to(64)),
    ("card: too old, auto", old_card(lambda: devices.pick_device()), leads_to("cpu", CARD)),
    (
        "card: too old, asked for",
        old_card(lambda: devices.pick_device("cuda")),
        refused(ValueError, "torch cannot compute on device .cuda. .*; take cpu"),
    ),
    ("user without a name", nobody, leads_to(False, "without torch.compile, which does not work here .*uid not found")),
    ("kernel: python3 of another environment", foreign_kernel, leads_to(None)),
    ("kernel: dies once", dying(1, ["1"]), leads_to((None, 2))),
    ("kernel: dies always", dying(9, ["1"]), leads_to(("RuntimeError", 2))),
    ("kernel: dies in a later cell", dying(0, ["1", "import os; os._exit(1)"]), leads_to(("DeadKernelError", 1))),
]
