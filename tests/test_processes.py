"""Commands of several processes: what Ctrl-C, SIGTERM and ``kill -9`` leave running. Nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from reader import wait
from test_notebook import write_notebook

from gahb.companion.reproduce import _threads_of_kernels

# Both begin two works that never end, each of which notes its process.
TRAIN = """
import os, sys, time
from pathlib import Path
import torch
from gahb.training import parallel, store
from gahb._util.signals import interruptible

def forever(recipe, *args, **kwargs):
    Path(sys.argv[1], f"{recipe}.pid").write_text(str(os.getpid()))
    with interruptible():
        while True:
            time.sleep(0.1)

jobs._train_one = forever
if __name__ == "__main__":
    try:
        with interruptible():
            print(list(jobs._in_processes([("a", None, "cpu", None), ("b", None, "cpu", None)], 2)))
    except KeyboardInterrupt:
        print("stopped")
"""
NOTEBOOKS = """
import sys
from pathlib import Path
from gahb.companion import reproduce
from gahb._util.signals import interruptible

if __name__ == "__main__":
    root, count = Path(sys.argv[1]), int(sys.argv[2])
    arguments = [(root / name, root / "out" / name, {}, 600) for name in ("a.ipynb", "b.ipynb")]
    try:
        with interruptible():
            print(list(reproduce._run_all(arguments, count)))
    except KeyboardInterrupt:
        print("stopped")
"""
CELL = "import os, time\nfrom pathlib import Path\nPath('{}').write_text(str(os.getpid()))\ntime.sleep(600)"


def alive(pid):
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="who is alive is read from /proc")
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
        wait(lambda: len([p for p in tmp_path.glob("*.pid") if p.read_text()]) == works, 120, "the works to begin")
        begun = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
        assert all(alive(pid) for pid in begun)
        if number == signal.SIGINT:
            subprocess.run(["kill", "-INT", "--", f"-{command.pid}"], check=True)
        else:
            command.send_signal(number)
        said, errors = command.communicate(timeout=60)
        wait(lambda: not any(alive(pid) for pid in begun), 30, "all processes to end")
    finally:
        subprocess.run(["kill", "-KILL", "--", f"-{command.pid}"], stderr=subprocess.DEVNULL, check=False)
    if number != signal.SIGKILL:
        assert command.returncode == 0 and said == "stopped\n", errors
        assert "Traceback" not in errors, errors


@pytest.mark.parametrize(("set_by_user", "threads"), [({}, "333"), ({"OMP_NUM_THREADS": "1"}, "111")])
def test_kernels_share_the_cores_or_take_what_the_user_set(set_by_user, threads, monkeypatch):
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    for name, value in set_by_user.items():
        monkeypatch.setenv(name, value)
    with _threads_of_kernels(3):
        assert "".join(os.environ[name] for name in names) == threads
    assert {name: os.environ[name] for name in names if name in os.environ} == set_by_user
