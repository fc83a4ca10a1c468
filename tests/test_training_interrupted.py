"""Trainings that are interrupted, resumed, refused a checkpoint, or no longer finite."""

import math
import os
import shutil
import signal
import threading
import time
from itertools import pairwise

import pytest
import safetensors.torch
import torch
from helpers import assert_same_weights, assert_undisturbed, folder_of, get, pixels, trained, without_seconds

from gahb._util.signals import HeldSignals, interruptible
from gahb.training import TrainingFailed, TrainingStopped, checkpoint, loop, step


def in_pieces(limit, stop, path, **settings):
    """Call ``train`` until it ends; how often it was stopped, and the network."""
    for stops in range(limit):
        try:
            return stops, trained(checkpoint=path, **settings)
        except stop:
            assert path.is_file()
    raise AssertionError(f"not at the end after {limit} pieces")


def hooked(function):
    """A step of an optimizer that torch.optim does not wrap again."""
    function.hooked = True
    return function


@pytest.mark.parametrize(
    "how", [{}, {"precision": "bfloat16"}, {"optimizer": "muon"}, {"loss_weighting": "balanced"}], ids=str
)
def test_pieces_of_a_time_limit_equal_one_go(tmp_path, how):
    how = how | {"lr_schedule": "one-cycle"}
    whole = trained(**how)
    stops, net = in_pieces(60, TrainingStopped, tmp_path / "c", **how, time_limit=1e-4)
    assert stops == 19  # one step each
    assert_same_weights(net, whole)
    assert without_seconds(net.history) == without_seconds(whole.history)
    assert all(b["seconds"] > a["seconds"] for a, b in pairwise(net.history))


def test_rows_between_pieces_are_complete(tmp_path):
    """More steps than rows: a row whose steps are split by a stop has the loss of all of them."""
    whole = trained(images_seen=832)
    stops, net = in_pieces(200, TrainingStopped, tmp_path / "c", images_seen=832, time_limit=1e-4)
    assert stops == 103
    assert without_seconds(net.history) == without_seconds(whole.history)


PLACES = {
    "a step, its noise drawn": (step, "draw_sigmas"),
    "a step, the gradient computed": (torch.Tensor, "backward"),
    "the optimizer": (torch.optim.Adam, "step"),
    "a checkpoint": (checkpoint, "write_tensors"),
    "the weights, found finite": (checkpoint, "tensors_of"),
}


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("place", PLACES)
def test_ctrl_c_anywhere_leaves_a_whole_checkpoint(place, moment, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)
    whole = trained()
    owner, name = PLACES[place]
    inner, calls = getattr(owner, name), [0]

    def interrupted(*args, **kwargs):
        calls[0] += 1
        if calls[0] % 7 == 0 and moment == "before":
            signal.raise_signal(signal.SIGINT)
        result = inner(*args, **kwargs)
        if calls[0] % 7 == 0 and moment == "after":
            signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(owner, name, hooked(interrupted))
    stops, net = in_pieces(40, KeyboardInterrupt, tmp_path / "c")
    assert stops >= 2
    assert_same_weights(net, whole)
    assert without_seconds(net.history) == without_seconds(whole.history)


@pytest.mark.slow
def test_a_second_ctrl_c_ends_a_long_step(tmp_path, monkeypatch):
    """The first waits for the step, which takes 20 s here; one that comes 2 s later does not. Nothing torn is kept."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)
    inner, calls = step.draw_sigmas, [0]

    def slow(asked, uniform):
        calls[0] += 1
        for _ in range(2_000 if calls[0] == 5 else 0):
            time.sleep(0.01)
        return inner(asked, uniform)

    monkeypatch.setattr(step, "draw_sigmas", slow)
    for seconds in (1.0, 1.5, 4.0):  # the second is impatient, and changes nothing
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        trained(checkpoint=tmp_path / "c")
    assert 3.5 < time.monotonic() - begun < 6
    assert float(safetensors.torch.load_file(tmp_path / "c")["optimizer.0.step"]) == 4
    assert_undisturbed(trained(checkpoint=tmp_path / "c"))


def test_a_signal_is_not_lost_when_the_training_ends_otherwise(tmp_path, monkeypatch):
    """It comes while the last checkpoint before the time limit is written."""
    inner = checkpoint.write_tensors
    monkeypatch.setattr(checkpoint, "write_tensors", lambda *a: (inner(*a), signal.raise_signal(signal.SIGINT)))
    with pytest.raises(KeyboardInterrupt):
        trained(checkpoint=tmp_path / "c", time_limit=1e-4)


def test_a_training_resumes_in_a_copy_of_its_store(tmp_path):
    """As ``rsync -a`` or ``tar`` carries it to another machine."""
    with pytest.raises(TrainingStopped):
        get(tmp_path / "here", time_limit=1e-4)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    held = safetensors.torch.load_file(folder_of(tmp_path / "there") / "checkpoint.safetensors")
    assert float(held["optimizer.0.step"]) == 1
    assert_undisturbed(get(tmp_path / "there"))


def test_interruptible_restores_the_handler():
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == handler
    seen = []

    def elsewhere():
        with interruptible(), HeldSignals():
            seen.append(signal.getsignal(signal.SIGTERM))

    worker = threading.Thread(target=elsewhere)
    worker.start()
    worker.join()
    assert seen == [handler]


def test_ignored_signals_stay_ignored():
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for its background jobs
    try:
        with HeldSignals():
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, former)


# --- checkpoints that must not be used --------------------------------------------------------------


def stopped(path, images=None, **settings):
    with pytest.raises(TrainingStopped):
        trained(images, checkpoint=path, **settings, time_limit=0.02)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"seed": 4}, "recipe"),
        ({"learning_rate": 0.002}, "recipe"),
        ({"images_seen": 168}, "recipe"),
        ({"images": pixels(seed=8)}, "images"),
        ({"images": pixels()[:11]}, "images"),
    ],
)
def test_checkpoint_of_another_training_is_not_used(other, named, tmp_path):
    stopped(tmp_path / "c", **other)
    held = (tmp_path / "c").read_bytes()
    with pytest.warns(UserWarning, match=f"c has another {named}, and is set aside as c.other; network starts again"):
        assert_undisturbed(trained(checkpoint=tmp_path / "c"))
    assert (tmp_path / "c.other").read_bytes() == held  # renamed back, it can be resumed


def test_checkpoint_of_another_arithmetic_is_not_used(tmp_path, monkeypatch):
    """``auto`` means other products on another machine: half of each would be neither."""
    monkeypatch.setattr(loop, "has_bfloat16_units", lambda device: True)
    stopped(tmp_path / "c", precision="auto")
    monkeypatch.setattr(loop, "has_bfloat16_units", lambda device: False)
    with pytest.warns(UserWarning, match="another arithmetic"):
        assert_undisturbed(trained(precision="auto", checkpoint=tmp_path / "c"))


def test_checkpoint_of_another_version_of_a_step_is_not_used(tmp_path, monkeypatch):
    stopped(tmp_path / "c")
    monkeypatch.setattr(checkpoint, "ARITHMETIC", checkpoint.ARITHMETIC + 1)
    with pytest.warns(UserWarning, match="another arithmetic"):
        assert_undisturbed(trained(checkpoint=tmp_path / "c"))


def test_8_bit_and_float_images_resume_the_same_checkpoint(tmp_path):
    stopped(tmp_path / "c", pixels())
    assert_undisturbed(trained(pixels().float() / 255, checkpoint=tmp_path / "c"))


# --- numbers that are not finite --------------------------------------------------------------------


def poison_weight(optimizer):
    optimizer.param_groups[0]["params"][0].data[0] = math.nan


def poison_moment(optimizer):
    next(iter(optimizer.state.values()))["exp_avg_sq"].fill_(math.inf)


@pytest.mark.parametrize("poison", [poison_weight, poison_moment])
def test_bad_state_never_replaces_the_good_checkpoint(poison, tmp_path, monkeypatch):
    """There are fewer rows than steps: some checkpoints fall between two rows."""
    calls, inner, at = [0], torch.optim.Adam.step, 110

    @hooked
    def poisoned(self):
        inner(self)
        calls[0] += 1
        if calls[0] == at:
            poison(self)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", poisoned)
        patch.setattr(loop, "CHECKPOINT_SECONDS", -1)
        with pytest.raises(TrainingFailed, match=rf"network failed after {at * 8:,} images: .*not finite"):
            trained(images_seen=880, checkpoint=tmp_path / "c")
    held = safetensors.torch.load_file(tmp_path / "c")
    assert all(bool(value.isfinite().all()) for value in held.values())
    assert float(held["optimizer.0.step"]) == at - 1
    assert_same_weights(trained(images_seen=880, checkpoint=tmp_path / "c"), trained(images_seen=880))


def test_bad_running_value_of_the_last_step_is_noticed(monkeypatch):
    inner = loop.take_step

    def poisoned(state, *arguments):
        inner(state, *arguments)
        if state.images_seen == 152:
            state.network.noise[3].running_sd[1] = math.inf

    monkeypatch.setattr(loop, "take_step", poisoned)
    with pytest.raises(TrainingFailed, match="running_sd is not finite"):
        trained()


def test_ctrl_c_during_a_failure_keeps_the_good_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", math.inf)
    stopped(tmp_path / "c")
    kept, inner = (tmp_path / "c").read_bytes(), torch.optim.Adam.step

    @hooked
    def poisoned(self):
        inner(self)
        poison_weight(self)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(torch.optim.Adam, "step", poisoned)
    with pytest.raises(KeyboardInterrupt):
        trained(checkpoint=tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == kept
