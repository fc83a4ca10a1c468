"""One store and several processes: which one trains, which waits, and what a kill at any moment leaves."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import assert_undisturbed, recipe

from gahb.training.store import identity, load, stored

pytestmark = pytest.mark.slow


@pytest.fixture
def one_thread():
    """As in the other processes: another number of threads may round otherwise."""
    former = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(former)


# Each script is one process that imports torch once and forks: a fork costs milliseconds.
COMMON = """
import json, os, random, signal, sys, time, warnings
import torch
import torch._dynamo  # as the first optimizer would, in each child
torch.set_num_threads(1)
warnings.simplefilter("error")
import helpers
from gahb._util import files
from gahb._util.signals import interruptible
from gahb.training import loop, step, store

root = sys.argv[1]

def get(folder, seen):
    return helpers.get(folder, helpers.recipe(images_seen=seen))

def forked(work):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return pid

def outcome(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def run(script, *arguments):
    source = COMMON + textwrap.dedent(script)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", source, *map(str, arguments)]
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_kill_at_any_moment(tmp_path):
    """24 kills or more, half of them at random times, half in the middle of writing a file."""
    result, errors = run(
        """
        import shutil
        SEEN = 800
        outcome(forked(lambda: get(root + "/whole", SEEN)))
        loop.CHECKPOINT_SECONDS = 0.01
        path = store.identity(helpers.recipe(images_seen=SEEN)) + "/weights.safetensors"
        draw, kills, runs = random.Random(0), 0, 0

        def suicidal(number, after):  # dies at its number-th rename, before or after it
            inner, calls = files.Path.replace, [0]
            def replace(self, target):
                calls[0] += 1
                if calls[0] == number and not after:
                    os.kill(os.getpid(), signal.SIGKILL)
                inner(self, target)
                if calls[0] == number:
                    os.kill(os.getpid(), signal.SIGKILL)
            files.Path.replace = replace
            get(root + "/killed", SEEN)

        def bytes_of(name):
            with open(f"{root}/{name}/{path}", "rb") as file:
                return file.read()

        equal = True
        while kills < 24:
            if kills % 2:
                number, after = draw.randrange(1, 8), draw.random() < 0.5
                pid = forked(lambda: suicidal(number, after))
            else:
                pid = forked(lambda: get(root + "/killed", SEEN))
                time.sleep(draw.uniform(0, 0.25))
                os.kill(pid, signal.SIGKILL)
            status = outcome(pid)
            assert status in (0, -signal.SIGKILL), status
            if status:
                kills += 1
            else:
                runs += 1
                equal &= bytes_of("whole") == bytes_of("killed")
                shutil.rmtree(root + "/killed")
        status = outcome(forked(lambda: get(root + "/killed", SEEN)))
        equal &= bytes_of("whole") == bytes_of("killed")
        print(json.dumps({"kills": kills, "status": status, "equal": equal, "runs": runs}))
        """,
        tmp_path,
    )
    assert result["kills"] >= 20 and result["status"] == 0 and result["equal"], (result, errors)
    (folder,) = (tmp_path / "killed").iterdir()
    left = {file.name for file in folder.iterdir()} - {".lock", "checkpoint.safetensors"}
    assert left == {"history.csv", "recipe.json", "weights.safetensors"}
    assert errors == ""  # nothing was damaged


LOCKS = """
inner = store.train
def counted(*args):
    with open(root + "/trainings", "a") as file:
        file.write("x")
    time.sleep(0.5)
    return inner(*args)
store.train = counted
pids = [forked(lambda: get(root + "/rivals", 160)) for _ in range(2)]
rivals = [outcome(pid) for pid in pids]

def hold():
    folder = store.Path(root) / "dead" / store.identity(helpers.recipe())
    with store.locked(folder):
        with open(root + "/held", "w"):
            time.sleep(60)
holder = forked(hold)
while not os.path.exists(root + "/held"):
    time.sleep(0.01)
waiting = forked(lambda: get(root + "/dead", 160))
time.sleep(0.7)
waited = os.waitpid(waiting, os.WNOHANG) == (0, 0)
os.kill(holder, signal.SIGKILL)
outcome(holder)
begun = time.monotonic()
after = outcome(waiting), time.monotonic() - begun
store.train = inner
"""

SIGNALS = """
name = root + "/" + store.identity(helpers.recipe(images_seen=10**8))
inner, calls = step.draw_sigmas, [0]
def counted(*args):
    calls[0] += 1
    if calls[0] == 20:
        os.mkdir(root + "/trains")  # in one step: the signal comes as soon as it is there
    return inner(*args)
step.draw_sigmas = counted

def work():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with interruptible():
            get(root, 10**8)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)

times = []
for number in (signal.SIGINT, signal.SIGTERM):
    pid = forked(work)
    while not os.path.exists(root + "/trains"):
        time.sleep(0.01)
    os.rmdir(root + "/trains")
    begun = time.monotonic()
    os.kill(pid, number)
    status = outcome(pid)
    seconds = time.monotonic() - begun
    times.append((status, seconds, files.read_tensors(name + "/checkpoint.safetensors")[1]["state"]["images_seen"]))
result = {"rivals": rivals, "waited": waited, "after": after, "times": times}
print(json.dumps(result | {"name": store.identity(helpers.recipe())}))
"""


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """The folder of what other processes did, what they measured, and what they said."""
    root = tmp_path_factory.mktemp("others")
    return root, *run(LOCKS + SIGNALS, root)


def test_one_of_two_rivals_trains_and_a_dead_holder_does_not_block(others, one_thread):
    root, result, errors = others
    assert result["rivals"] == [0, 0]
    assert (root / "trainings").read_text() == "xx"  # one for the rivals, one after the dead holder
    assert result["waited"] and result["after"][0] == 0 and result["after"][1] < 5
    assert errors.count("is being trained by another process; waiting for it") == 2
    for name in ("rivals", "dead"):
        assert_undisturbed(load(root / name / identity(recipe())))


def test_identity_is_the_same_in_another_process(others):
    assert others[1]["name"] == identity(recipe())


def test_signals_from_outside(others):
    """SIGINT and SIGTERM: answered within a second or so, with a checkpoint from which the next run resumes."""
    root, result, errors = others
    (first, first_time, first_seen), (second, second_time, second_seen) = result["times"]
    assert first == second == 0 and max(first_time, second_time) < 2
    assert 19 * 8 <= first_seen <= second_seen - 19 * 8
    assert errors.count("stopped") == 2 and "Traceback" not in errors
    assert not list(root.rglob("*.tmp"))


def test_training_needs_six_packages_only(tmp_path):
    """It runs inside any cluster's torch image: the other packages cannot be imported here."""
    blocker = """
    import sys
    from importlib.machinery import PathFinder
    class Absent(PathFinder):
        @staticmethod
        def find_spec(name, *rest):
            return None if name.partition(".")[0] in BLOCKED else PathFinder.find_spec(name, *rest)
    BLOCKED = {"scipy", "matplotlib", "papermill", "seaborn", "skimage", "sklearn", "pywt", "click", "ipywidgets",
               "jupytext", "jupyterlab", "nbformat", "nbclient", "pandas", "IPython"}
    sys.meta_path[sys.meta_path.index(PathFinder)] = Absent
    try:
        import scipy
    except ModuleNotFoundError:
        pass
    else:
        raise AssertionError("scipy should be absent here")
    import gahb
    how = {"network_kwargs": {"depth": 3, "channels": 4}, "images_seen": 16}
    for data in ({"class": "c_alpha", "alpha": 2.0}, {"class": "disks"}, {"class": "sinusoids"}):
        gahb.load_or_train(gahb.Recipe("tiny", data | {"n": 6, "size": 12}, **how), store=sys.argv[1], device="cpu")
    faces = gahb.datasets.faces(sys.argv[2], 8, 3, 2)
    gahb.load_or_train(gahb.Recipe("faces", {"n": 3}, **how), faces.part("S1"), sys.argv[1], "cpu")
    assert not BLOCKED & {name.partition(".")[0] for name in sys.modules}
    """
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 16), dtype=np.uint8)
    np.savez(tmp_path / "faces.npz", images=pixels)
    arguments = tmp_path / "store", tmp_path / "faces.npz"
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(blocker), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert len(stored(tmp_path / "store")) == 4
    assert done.stderr == ""  # no bar in a log for a short training
