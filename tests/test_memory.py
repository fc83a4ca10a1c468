"""What a training process does to the allocator: pages that the system gives, and memory that the process has.

Each in a process of its own: where blocks lie in the memory of this one depends on the tests before.
"""

import json
import platform
import subprocess
import sys

import pytest

from gahb._util import devices

BEGINNING = """
import json, resource, torch
from pathlib import Path
import gahb
from gahb._util.devices import keep_freed_memory

net, y = gahb.BFCNN(3, 16).train(), torch.rand(32, 1, 128, 128)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    net(y).square().mean().backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""


def measured(code):
    """The list ``found`` that a fresh Python has after ``code``."""
    code = f"{BEGINNING}\n{code}\nprint(json.dumps(found))"
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator, which is left alone")


@glibc
@pytest.mark.slow
def test_steps_reuse_the_memory_of_those_before_them():
    """Pages that the system gives for a step whose features are 34 MB per layer."""
    before, after = measured("found = [faults()]\nkeep_freed_memory()\nfaults()\nfound += [faults()]")
    assert after < before / 5


@glibc
@pytest.mark.slow
def test_more_than_2_GB_are_kept():
    """Batches of 512 at 40x40: 210 MB per layer. Never touched here, so that it takes no memory."""
    code = """
def data():
    return 1024 * int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0])

keep_freed_memory()
found = [data()]
torch.empty(5 * 2**29, dtype=torch.uint8)
found += [data()]"""
    before, kept = measured(code)
    assert kept - before > 2 * 2**30


@glibc
@pytest.mark.slow
def test_training_leaves_the_allocator_of_its_caller_alone():
    """The command line and training processes may change it; a library must not."""
    code = """
before = [faults()]
gahb.train(torch.rand(4, 1, 8, 8), network_kwargs={"depth": 2, "channels": 2}, images_seen=512, progress=False)
found = before + [faults()]"""
    before, after = measured(code)
    assert after > before / 2


def test_another_allocator_is_left_alone(monkeypatch):
    monkeypatch.setattr(devices.sys, "platform", "another")
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda name: 1 / 0)
    devices.keep_freed_memory()


def test_nearest_holds_no_copy_of_a_large_training_set():
    """8-bit images of 100 MB, of which a copy in float32 would have 400 MB and one in float64 800 MB."""
    code = """
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MB

train = torch.zeros(6_000, 1, 128, 128, dtype=torch.uint8)
train[torch.arange(6_000), 0, torch.arange(6_000) % 128, torch.arange(6_000) // 128] = 255
gahb.nearest(train[:2], train[:100], centered=True)
found = [peak()]
index = gahb.nearest(train[5000:5004], train, centered=True).index
assert index.tolist() == [5000, 5001, 5002, 5003]
found += [peak()]"""
    before, after = measured(code)
    assert after - before < 300
