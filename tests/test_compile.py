"""When a training is compiled, that it resumes with the same bits, and what happens without a compiler."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch

from gahb import denoisers
from gahb.companion import scales
from gahb.training import compile
from gahb.training.loop import Recipe, TrainingStopped, train

TINY = {"network_kwargs": {"depth": 3, "channels": 4}, "batch_size": 8, "images_seen": 32, "progress": False}
LONG = {"precision": "bfloat16"} | TINY


def pixels():
    return torch.randint(0, 256, (12, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def repays(training, pixels, device, bfloat16=True):
    recipe = Recipe("a", {}, **training)
    net = denoisers.NETWORKS[recipe.network](**recipe.size)
    return compilation.repays(recipe, net, pixels, torch.device(device), bfloat16)


@pytest.mark.parametrize("bfloat16", [True, False])
def test_long_trainings_are_compiled(bfloat16):
    """6.4e16 operations at paper scale, 1.3e14 at laptop scale; its synthetic images 6.4e13."""
    for device in ("cpu", "cuda"):
        assert repays(scales.PAPER_TRAINING, 1600, device, bfloat16)
        assert not repays(scales.SMOKE_TRAINING, 400, device, bfloat16)
    assert repays(scales.LAPTOP_TRAINING, 400, "cuda", bfloat16)  # few operations, but 15,000 steps of launches
    assert repays(scales.PAPER_SHORT_TRAINING, 1600, "cuda", bfloat16)
    assert repays(scales.LAPTOP_TRAINING, 400, "cpu", bfloat16) is not bfloat16  # bfloat16 is fast enough without
    assert not repays(scales.LAPTOP_TRAINING | scales.SMALL_NOISE, 1024, "cpu", bfloat16)
    assert not repays(scales.PAPER_TRAINING, 1600, "mps", bfloat16)


@pytest.mark.parametrize(("seconds", "compiled"), [(319, True), (320, False)])
def test_what_repays_is_counted_in_seconds_saved(monkeypatch, seconds, compiled):
    """665,856 parameters, 1,600 pixels, 10^7 images, 6 operations each, at 10^14 a second: 639.2 s, of which half."""
    monkeypatch.setattr(_compile, "MODEST_RATE", {("cpu", True): 1e14})
    monkeypatch.setattr(_compile, "REPAID_SECONDS", {"cpu": seconds})
    assert repays(scales.PAPER_TRAINING, 1600, "cpu") is compiled


@pytest.mark.parametrize(("seconds", "compiled"), [(69, True), (71, False)])
def test_steps_on_a_gpu_take_the_time_of_their_launches(monkeypatch, seconds, compiled):
    """5,000 steps of 20 ms, however little is computed: 100 s, of which 70 are saved."""
    monkeypatch.setattr(_compile, "REPAID_SECONDS", {"cuda": seconds})
    assert repays({"batch_size": 2, "images_seen": 10_000}, 100, "cuda") is compiled


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_kernels_are_launched_as_one_graph_on_a_gpu_alone(monkeypatch, device):
    given = {}
    monkeypatch.setattr(torch, "compile", lambda function, **how: given.update(how) or function)
    compilation.compiled(torch.square, torch.device(device))
    assert given["options"]["triton.cudagraphs"] is (device == "cuda")
    assert given["options"]["deterministic"] and given["fullgraph"] and given["dynamic"] is False


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(_compile, "REPAID_SECONDS", {"cpu": 0})


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_compiled_training_goes_on_with_the_same_bits(tmp_path, monkeypatch, always, precision):
    how = LONG | {"precision": precision}
    whole = train(pixels(), **how)
    with pytest.raises(TrainingStopped):
        train(pixels(), **how, checkpoint=tmp_path / "c", time_limit=1e-4)
    torch.compiler.reset()  # as in another process: compiled anew
    with safetensors.safe_open(tmp_path / "c", "pt") as held:
        assert f"cpu {precision} compiled" in str(held.metadata())
    net = train(pixels(), **how, checkpoint=tmp_path / "c")
    for key, value in whole.state_dict().items():
        assert torch.equal(value, net.state_dict()[key]), key
    monkeypatch.setattr(_compile, "REPAID_SECONDS", {"cpu": 1e9})
    eager = train(pixels(), **how)
    np.testing.assert_allclose(*([r["loss"] for r in n.history] for n in (whole, eager)), rtol=0.02)  # 8 bits
    with pytest.warns(UserWarning, match="another arithmetic"):
        train(pixels(), **how, checkpoint=tmp_path / "c")


WITHOUT_COMPILER = """
import sys, warnings
sys.path.insert(0, {tests!r})
from test_compile import LONG, _compile, pixels, train
eager = train(pixels(), **LONG)
compilation.REPAID_SECONDS['cpu'] = 0
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    nets = [train(pixels(), **LONG) for _ in range(2)]
for net in nets:
    assert all(value.equal(net.state_dict()[key]) for key, value in eager.state_dict().items())
print(*(warning.message for warning in caught if "torch.compile" in str(warning.message)), sep="\\n")
"""


def test_without_a_compiler_there_is_one_line_of_warning_and_the_same_weights(tmp_path):
    tests = str(Path(__file__).parent)
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_COMPILER.format(tests=tests)],
        env=os.environ | {"CXX": str(tmp_path / "nowhere"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    (line,) = run.stdout.splitlines()
    assert line.startswith("training without torch.compile, which does not work here (")
    assert line.endswith("; install a C++ compiler such as g++")
