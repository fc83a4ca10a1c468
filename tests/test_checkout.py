"""A checkout that nobody may write to: files go where the user says, and a command that would write there fails."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from gahb.training.store import project

# Root may write anywhere unless it gives up these capabilities.
GIVEN_UP = "-dac_override,-dac_read_search,-fowner"
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
pytestmark = pytest.mark.skipif(
    os.name == "nt" or (ROOT and not shutil.which("setpriv")), reason="permissions cannot be given up here"
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the package and its notebooks, read-only, its path with a space in it."""
    folder = tmp_path_factory.mktemp("a lab") / "shared checkout"
    made = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("gahb", "notebooks"):
        shutil.copytree(project() / name, folder / name, ignore=made)
    shutil.copy(project() / "pyproject.toml", folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    yield folder
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)


def gahb(checkout, *arguments):
    """Run a command of the checkout as a user who may not write there."""
    without = ["setpriv", f"--bounding-set={GIVEN_UP}"] if ROOT else []
    environment = {name: value for name, value in os.environ.items() if name != "GAHB_STORE"}
    environment |= {"PYTHONPATH": str(checkout)}
    command = [*without, sys.executable, "-m", "gahb", *arguments]
    return subprocess.run(command, cwd=checkout, env=environment, text=True, capture_output=True, check=False)


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.slow
def test_a_notebook_runs_with_all_folders_elsewhere(checkout, tmp_path):
    before = everything(checkout)
    folders = {name: tmp_path / name for name in ("store", "figures", "runs")}
    done = gahb(checkout, "reproduce", "--only", "03", *(f"--{name}={path}" for name, path in folders.items()))
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(folders["store"].glob("*/weights.safetensors"))) == 1
    assert (folders["runs"] / "smoke" / "03_jacobian_basis.ipynb").is_file()
    assert {"report.md", "claims.json"} <= {path.name for path in (folders["figures"] / "smoke").iterdir()}
    assert everything(checkout) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("reproduce", "--only", "03"), "cannot be written to (Permission denied); give other folders with --figures"),
        (("train", "--only", "disks"), "give another store"),
        (("data", "MINE", "--sheet", "sheet.png"), "sheet.png could not be written in"),
    ],
)
def test_a_command_that_would_write_there_fails_with_one_sentence(arguments, sentence, checkout, tmp_path):
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).random((4, 8, 8)))
    before = everything(checkout)
    done = gahb(checkout, *(str(tmp_path / "mine.npy") if word == "MINE" else word for word in arguments))
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and last.startswith("gahb: ") and sentence in last, done.stderr
    assert "Traceback" not in done.stderr
    assert everything(checkout) == before


def test_commands_that_only_read_work(checkout):
    assert gahb(checkout, "list").returncode == 0
