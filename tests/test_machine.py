"""What a training does to the allocator, counted in the pages that the system has to give."""

import platform
import resource
import statistics

import pytest
import torch

from gahb._machine import keeping_memory

PAGES = 64 * 2**20 // resource.getpagesize()  # of the tensor below


def faults():
    """Pages given by the system for a tensor of 64 MB that is made, filled and freed; huge ones count once.

    The median of nine: now and then something small is put where the last tensor was.
    """
    counts = []
    for _ in range(9):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**24)
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return statistics.median(counts)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an allocator that is left alone")
def test_freed_memory_is_kept_inside_and_given_back_outside():
    few = PAGES / 600  # a system that gives huge pages gives 32 of them
    assert faults() > few
    with keeping_memory():
        assert faults() == 0
    assert faults() > few


def test_another_allocator_is_left_alone(monkeypatch):
    monkeypatch.setattr("gahb._machine.sys.platform", "another")
    monkeypatch.setattr("gahb._machine.ctypes.CDLL", lambda name: 1 / 0)
    with keeping_memory():
        pass
