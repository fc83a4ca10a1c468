"""A step as one CUDA graph: what its warm-up changes is undone; on a GPU, replays are steps, and resume bit for bit."""

from functools import partial

import pytest
import torch
from helpers import assert_same_weights, recipe, trained

from gahb import datasets
from gahb.training import TrainingStopped, graph
from gahb.training.checkpoint import tensors_of
from gahb.training.loop import start, take_step

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
BALANCED = {"loss_weighting": "balanced", "optimizer": "muon", "learning_rate": 1e-2}


def begun(device="cpu", **settings):
    """A training before its first step, and its step."""
    images = datasets.disks(16, 12)
    state, denoiser = start(recipe(**BALANCED | settings), images, torch.device(device))
    state.network.train()
    return state, partial(take_step, state, denoiser, images.to(device))


def values(state):
    return {name: value.clone() for name, value in tensors_of(state).items()}


@pytest.mark.parametrize("steps_before", [0, 2])
@pytest.mark.parametrize("settings", [{}, {"optimizer": "adam", "loss_weighting": 0.5}])
def test_warm_up_is_undone(settings, steps_before):
    """Steps after a warm-up are those of a training without one; moments that it created are zero."""
    (state, step), (plain, plain_step) = begun(**settings), begun(**settings)
    for _ in range(steps_before):
        step()
        plain_step()
    pointers = {name: value.data_ptr() for name, value in tensors_of(state).items()}
    with graph.undone(state):
        for _ in range(graph.WARM_UP):
            step()
        assert not torch.equal(state.losses, plain.losses)
    now = tensors_of(state)
    assert {name: now[name].data_ptr() for name in pointers} == pointers  # in place: a graph reads these addresses
    assert all(not now[name].any() for name in now.keys() - tensors_of(plain).keys())
    for _ in range(2):
        step()
        plain_step()
    expected = values(plain)
    for name, value in values(state).items():
        assert torch.equal(value, expected[name]), name


@gpu
@pytest.mark.parametrize("settings", [{}, {"optimizer": "adam", "loss_weighting": 0.5}])
def test_a_replay_is_a_step(settings):
    """Five replays and five plain steps differ by rounding, and draw the same random numbers."""
    (state, step), (plain, plain_step) = begun("cuda", **settings), begun("cuda", **settings)
    replay = graph.captured(step, state)
    for _ in range(5):
        replay()
        plain_step()
    assert torch.equal(state.generator.get_state(), plain.generator.get_state())
    expected = values(plain)
    for name, value in values(state).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)


@gpu
@pytest.mark.parametrize("compile", [False, True])
def test_a_training_on_a_gpu_resumes_with_the_same_bits(tmp_path, compile):
    how = BALANCED | {"images_seen": 160, "compile": compile, "precision": "auto", "device": "cuda"}
    whole = trained(**how)
    with pytest.raises(TrainingStopped):
        trained(**how, checkpoint=tmp_path / "c", time_limit=1e-4)
    torch.compiler.reset()
    assert_same_weights(whole, trained(**how, checkpoint=tmp_path / "c"))
