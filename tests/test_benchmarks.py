"""The benchmark: what it compares with does the same work, its bars can be missed, its notebooks' times add up."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gahb
from gahb import datasets

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import bench
import reference


@pytest.fixture
def net():
    return gahb.BFCNN(4, 8).eval()


def test_the_reference_trains():
    steps = reference.training(datasets.disks(64, 12), 4, 8, batch=32)
    losses = [next(steps) for _ in range(40)]
    assert sum(losses[-5:]) < sum(losses[:5]) / 2


def test_a_benchmarked_step_is_a_step_of_a_training():
    images = datasets.disks(16, 12)
    how = {"network_kwargs": {"depth": 3, "channels": 4}, "batch_size": 8, "images_seen": 8}
    state, step = bench.training_step(images, torch.device("cpu"), **how)
    step()
    assert float(state.losses[0]) == gahb.train(images, **how, progress=False).history[0]["loss"]


def test_the_reference_computes_what_we_do(net):
    y = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    rows = reference.jacobian_rows(net, y, range(0, 64, 5))
    torch.testing.assert_close(gahb.jacobian(net, y)[::5], rows, rtol=1e-4, atol=1e-5)
    shrink = torch.nn.Module()
    shrink.forward = lambda y: 0.5 * y
    noise = gahb.gaussian_noise(3, (1, 8, 8))
    plain = reference.samples(shrink, noise, 0.2, 0.1)
    torch.testing.assert_close(gahb.sample(shrink, noise, 0.2, 0.1).images, plain, rtol=1e-5, atol=1e-6)
    images, train = torch.rand(5, 1, 8, 8), torch.rand(40, 1, 8, 8)
    assert torch.equal(gahb.nearest(images, train).index, reference.nearest(images, train))


def test_the_reference_finds_the_same_bandlets():
    noisy = datasets.c_alpha(1, 32, 2.0).double() + 0.1 * gahb.gaussian_noise(1, (1, 32, 32))
    matrices = {side: gahb._alpert.matrices(side, 2) for side in (4, 8, 16)}
    ours = gahb.bandlets.denoise(noisy, 0.1, dictionary=gahb.bandlets.Dictionary(levels=3))
    plain = torch.from_numpy(reference.bandlets(noisy[0, 0].numpy(), 0.1, matrices, levels=3))
    torch.testing.assert_close(ours[0, 0], plain, rtol=0, atol=1e-10)


def test_a_bar_is_held_or_missed(capsys):
    table = bench.Table()
    table.row("a", "1", "2", 2.0, 1.5)
    table.row("b", "1", "2", 1.4, 1.5)
    table.row("c", "1", "", 0.9, 1, below=True)
    table.row("d", "1", "", 1.1, 1, below=True)
    table.row("e", "1", "")
    assert [line.split("|")[-2].strip() for line in table.lines[2:]] == ["held", "MISSED", "held", "MISSED", ""]
    assert table.missed == 2
    assert capsys.readouterr().out.count("\n") == 5


def test_memory_is_this_process_own():
    """256 MB more are found, and not much else, in a process that has not held more before."""
    code = (
        "import bench, torch; before = bench.peak_memory(); x = torch.ones(2**26); print(bench.peak_memory() - before)"
    )
    held = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(bench.__file__).parent, capture_output=True, text=True, check=True
    )
    assert 0.24 < float(held.stdout) < 0.28
