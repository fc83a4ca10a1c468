"""When a training is compiled, that it resumes with the same bits, and what happens without a compiler."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import assert_same_weights, recipe, trained

from gahb.training import TrainingStopped, compile


@pytest.mark.parametrize(("device", "steps"), [("cpu", 10_000), ("cuda", 1_000)])
def test_auto_compiles_from_a_number_of_steps(monkeypatch, device, steps):
    monkeypatch.setattr(compile, "works", lambda device: True)
    long, short = (recipe(images_seen=8 * steps - less, compile="auto") for less in (0, 1))
    assert compile.is_compiled(long, torch.device(device)) and not compile.is_compiled(short, torch.device(device))
    assert not compile.is_compiled(long, torch.device("mps"))


@pytest.mark.slow
def test_a_compiled_training_resumes_with_the_same_bits(tmp_path):
    how = {"images_seen": 32, "precision": "bfloat16", "compile": True}
    whole = trained(**how)
    with pytest.raises(TrainingStopped):
        trained(**how, checkpoint=tmp_path / "c", time_limit=1e-4)
    torch.compiler.reset()  # as in another process, which compiles again
    assert_same_weights(whole, trained(**how, checkpoint=tmp_path / "c"))
    eager = trained(**how | {"compile": False})
    assert not torch.equal(whole.noise[0].weight, eager.noise[0].weight)
    np.testing.assert_allclose(*([r["loss"] for r in n.history] for n in (whole, eager)), rtol=0.02)  # 8 bits


def test_a_checkpoint_of_an_eager_training_is_not_resumed_by_a_compiled_one(tmp_path, monkeypatch):
    """``auto`` means another arithmetic where there is no compiler."""
    monkeypatch.setitem(compile.STEPS, "cpu", 0)
    monkeypatch.setattr(compile, "works", lambda device: False)
    with pytest.raises(TrainingStopped):
        trained(compile="auto", checkpoint=tmp_path / "c", time_limit=1e-4)
    monkeypatch.setattr(compile, "works", lambda device: True)
    monkeypatch.setattr(torch, "compile", lambda function, **how: function)
    with pytest.warns(UserWarning, match="c has another arithmetic"):
        trained(compile="auto", checkpoint=tmp_path / "c")


WITHOUT_COMPILER = """
import sys, warnings
sys.path.insert(0, {tests!r})
from helpers import assert_same_weights, trained
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    networks = [trained(compile=True) for _ in range(2)]
for network in networks:
    assert_same_weights(network, trained())
print(*(warning.message for warning in caught if "torch.compile" in str(warning.message)), sep="\\n")
"""


@pytest.mark.slow
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
