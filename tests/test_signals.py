"""What a training does to the allocator: pages that the system gives, memory that the process has.

Each in a process of its own: where blocks lie in the memory of this one depends on the tests before.
"""

import json
import platform
import subprocess
import sys

import pytest
from gahb._util.machine import keeping_memory

BEGINNING = """
import json, resource, torch
from pathlib import Path
import gahb
from gahb._util.machine import keeping_memory

def status(key):
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0])

net, y = gahb.BFCNN(4, 16).train(), torch.rand(32, 1, 128, 128)

def faults(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        net(y).square().mean().backward()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / steps
"""


def measured(code):
    """The list ``found`` that a fresh Python has after ``code``."""
    code = f"{BEGINNING}\n{code}\nprint(json.dumps(found))"
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an allocator that is left alone")


@glibc
def test_steps_reuse_the_memory_of_those_before_them():
    """Pages that the system gives for a step whose features are 34 MB a layer: outside some 330,000, inside 1,024."""
    code = "found = [faults(2)]\nwith keeping_memory():\n    faults(2)\n    found += [faults(4)]\nfound += [faults(2)]"
    before, inside, after = measured(code)
    assert inside < min(before, after) / 5


@glibc
def test_what_was_kept_goes_back_to_the_system():
    """500 MB in blocks of 5 MB, which were filled."""
    code = """
with keeping_memory():
    held = [torch.ones(5 * 2**18) for _ in range(100)]
    found = [status("VmRSS")]
    del held
    found += [status("VmRSS")]
found += [status("VmRSS")]"""
    held, kept, after = measured(code)
    assert held - kept < 10 * 2**20 and held - after > 400 * 2**20


@glibc
def test_more_than_2_GB_are_kept():
    """Batches of 512 at 40x40: 210 MB each layer. Never touched here, so that it takes no memory."""
    code = """
with keeping_memory():
    found = [status("VmData")]
    torch.empty(5 * 2**29, dtype=torch.uint8)
    found += [status("VmData")]"""
    before, kept = measured(code)
    assert kept - before > 2 * 2**30


def test_another_allocator_is_left_alone(monkeypatch):
    monkeypatch.setattr("gahb._util.machine.sys.platform", "another")
    monkeypatch.setattr("gahb._util.machine.ctypes.CDLL", lambda name: 1 / 0)
    with keeping_memory():
        pass
