"""Commands of several processes: what Ctrl-C, SIGTERM and ``kill -9`` leave running. Nothing."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import nbformat
import pytest

from gahb.training import parallel
from gahb.training.parallel import end_all

# Each starts one or two works that never end, which write down the numbers of their processes.
TRAIN = """
import os, sys, time
from pathlib import Path
from gahb.training import Recipe, parallel, store

def forever(recipe, *rest):
    Path(sys.argv[1], f"{recipe.name}.pid").write_text(str(os.getpid()))
    while True:
        time.sleep(0.1)

store.load_or_train = forever
if __name__ == "__main__":
    try:
        parallel.train_all([(Recipe(name, {}), None) for name in "ab"], sys.argv[1], "cpu", 2, echo=lambda line: None)
    except KeyboardInterrupt:
        print("stopped")
"""
NOTEBOOKS = """
import sys
from pathlib import Path
from gahb.companion import reproduce
from gahb._util.signals import interruptible
from gahb.training.parallel import in_processes

if __name__ == "__main__":
    root, count = Path(sys.argv[1]), int(sys.argv[2])
    arguments = [(root / name, root / "out" / name, {}, 600) for name in ("a.ipynb", "b.ipynb")]
    try:
        with interruptible():
            print(list(in_processes(reproduce._timed, arguments, count)))
    except KeyboardInterrupt:
        print("stopped")
"""
CELL = "import os, time\nfrom pathlib import Path\nPath('{}').write_text(str(os.getpid()))\ntime.sleep(600)"


def write_notebook(path, code):
    cells = [nbformat.v4.new_code_cell(code, metadata={"tags": ["parameters"]})]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


def wait(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s"
        time.sleep(0.2)


def alive(pid):
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="which processes live is read from /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize(("script", "jobs", "works"), [(TRAIN, 2, 2), (NOTEBOOKS, 1, 1), (NOTEBOOKS, 2, 2)])
def test_a_signal_ends_all_processes(script, jobs, works, number, tmp_path):
    """SIGINT goes to the whole group, as from a terminal; the others to the command alone."""
    (tmp_path / "out").mkdir()
    for name in "ab":
        write_notebook(tmp_path / f"{name}.ipynb", CELL.format(tmp_path / f"{name}.pid"))
    (tmp_path / "run.py").write_text(script)
    command = subprocess.Popen(
        [sys.executable, tmp_path / "run.py", tmp_path, str(jobs)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        wait(lambda: len([p for p in tmp_path.glob("*.pid") if p.read_text()]) == works, 120)
        begun = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
        assert all(alive(pid) for pid in begun)
        if number == signal.SIGINT:
            subprocess.run(["kill", "-INT", "--", f"-{command.pid}"], check=True)
        else:
            command.send_signal(number)
        said, errors = command.communicate(timeout=60)
        wait(lambda: not any(alive(pid) for pid in begun), 30)
    finally:
        subprocess.run(["kill", "-KILL", "--", f"-{command.pid}"], stderr=subprocess.DEVNULL, check=False)
    if number != signal.SIGKILL:
        assert command.returncode == 0 and said == "stopped\n", errors
        assert "Traceback" not in errors, errors


def test_other_children_of_the_process_are_left_alone():
    """A notebook user's own workers, while a training of several processes is stopped."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as own, ProcessPoolExecutor(1, context) as pool:
        busy = pool.submit(time.sleep, 600)
        assert own.submit(abs, -1).result() == 1
        wait(busy.running, 30)
        end_all(pool)
        with pytest.raises(BrokenProcessPool):
            busy.result(30)
        assert own.submit(abs, -2).result() == 2


@pytest.mark.slow
@pytest.mark.parametrize(("set_by_user", "threads"), [({}, "333"), ({"OMP_NUM_THREADS": "1"}, "111")])
def test_kernels_share_the_cores_or_take_what_the_user_set(set_by_user, threads, monkeypatch):
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    for name, value in set_by_user.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(parallel, "cores", lambda: 6)
    assert "".join(parallel.in_processes(os.getenv, [(name,) for name in names], 2)) == threads
