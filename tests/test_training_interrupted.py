"""Trainings that are interrupted, resumed, refused a checkpoint, or no longer finite."""

import math
import os
import random
import signal
import threading
import time
from itertools import pairwise

import pytest
import safetensors.torch
import torch
from test_training import TINY, assert_same_weights, pixels, undisturbed, without_seconds

from gahb._util.signals import interruptible
from gahb.training import loop
from gahb.training.loop import HeldSignals, Recipe, TrainingFailed, TrainingStopped, train


def in_pieces(limit, stop, checkpoint, **settings):
    """Call ``train`` until it ends; how often it was stopped, and the network."""
    for stops in range(limit):
        try:
            return stops, train(pixels(), checkpoint=checkpoint, **(TINY | settings))
        except stop:
            assert checkpoint.is_file()
    raise AssertionError(f"not at the end after {limit} pieces")


@pytest.mark.parametrize(
    "how", [{}, {"precision": "bfloat16"}, {"optimizer": "muon"}, {"loss_weighting": "balanced"}], ids=str
)
def test_pieces_of_a_time_limit_equal_one_go(tmp_path, how):
    how = how | {"lr_schedule": "one-cycle"}
    whole = train(pixels(), **TINY, **how)
    stops, net = in_pieces(60, TrainingStopped, tmp_path / "c", **how, time_limit=1e-4)
    assert stops == 29  # one step each
    assert_same_weights(net, whole)
    assert without_seconds(net.history) == without_seconds(whole.history)
    assert all(b["seconds"] > a["seconds"] for a, b in pairwise(net.history))


def test_rows_between_pieces_are_complete(tmp_path):
    """More steps than rows: a row whose steps are split by a stop has the loss of all of them."""
    how = {"images_seen": 1_040}
    whole = train(pixels(), **(TINY | how))
    stops, net = in_pieces(200, TrainingStopped, tmp_path / "c", **how, time_limit=0.02)
    assert stops > 3
    assert without_seconds(net.history) == without_seconds(whole.history)


def test_time_limit_says_what_to_do(tmp_path):
    begun = time.monotonic()
    with pytest.raises(TrainingStopped, match=r"^denoiser stopped at its time limit after [\d,]+ of 80,000,000 "):
        train(pixels(), **(TINY | {"images_seen": 80_000_000}), checkpoint=tmp_path / "c", time_limit=0.3)
    assert 0.3 < time.monotonic() - begun < 3
    assert sorted(file.name for file in tmp_path.iterdir()) == ["c"]


PLACES = {
    "a step, its noise drawn": (training, "draw_sigmas"),
    "a step, the gradient computed": (torch.Tensor, "backward"),
    "the optimizer": (torch.optim.Adam, "step"),
    "a checkpoint": (training, "write_tensors"),
    "a row of the history": (training._Run, "report"),
}


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("place", PLACES)
def test_ctrl_c_anywhere_leaves_a_whole_checkpoint(place, moment, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1)
    whole = undisturbed()
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

    interrupted.hooked = True  # torch.optim would wrap it again
    monkeypatch.setattr(owner, name, interrupted)
    stops, net = in_pieces(40, KeyboardInterrupt, tmp_path / "c")
    assert stops >= 3
    assert_same_weights(net, whole)
    assert without_seconds(net.history) == without_seconds(whole.history)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_at_random_moments(number, tmp_path):
    how = {"images_seen": 4_000}
    whole = undisturbed(**how)
    begun = time.monotonic()
    train(pixels(), **(TINY | how))  # timed when warm, so that two signals come on any machine
    fourth = (time.monotonic() - begun) / 4
    draw, stops, net = random.Random(0), 0, None
    with interruptible():
        while net is None:
            # later and later: on a machine that has grown slow the training ends all the same
            after = draw.uniform(0, fourth) * 1.2**stops
            timer = threading.Timer(after, os.kill, (os.getpid(), number))
            try:
                timer.start()
                net = train(pixels(), checkpoint=tmp_path / "c", **(TINY | how))
                timer.cancel()
                timer.join()
            except KeyboardInterrupt:
                stops += 1
    assert stops >= 2
    assert_same_weights(net, whole)


def test_ctrl_c_does_not_wait_for_a_long_step(tmp_path, monkeypatch):
    """A step of the paper's network takes many seconds on a CPU: it is given up, and done again later."""
    inner = training.draw_sigmas

    def slow(recipe, uniform):
        for _ in range(400):
            time.sleep(0.01)
        return inner(recipe, uniform)

    monkeypatch.setattr(training, "draw_sigmas", slow)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        train(pixels(), **TINY, checkpoint=tmp_path / "c")
    assert time.monotonic() - begun < 2
    monkeypatch.setattr(training, "draw_sigmas", inner)
    assert_same_weights(train(pixels(), **TINY, checkpoint=tmp_path / "c"), train(pixels(), **TINY))


def test_interruptible_restores_the_handler():
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == handler
    seen = []

    def elsewhere():
        with interruptible(), HeldSignals() as held, held.let_in():
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


def stopped(checkpoint, images=None, **settings):
    with pytest.raises(TrainingStopped):
        train(pixels() if images is None else images, checkpoint=checkpoint, **(TINY | settings), time_limit=0.02)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"seed": 4}, "recipe"),
        ({"learning_rate": 0.002}, "recipe"),
        ({"images_seen": 248}, "recipe"),
        ({"images": pixels(seed=8)}, "images"),
        ({"images": pixels()[:11]}, "images"),
    ],
)
def test_checkpoint_of_another_training_is_not_used(other, named, tmp_path, monkeypatch):
    stopped(tmp_path / "c", **other)
    held = (tmp_path / "c").read_bytes()
    with pytest.warns(UserWarning, match=f"c is of another {named}, and is set aside as c.other; denoiser starts anew"):
        net = train(pixels(), **TINY, checkpoint=tmp_path / "c")
    assert_same_weights(net, undisturbed())
    assert (tmp_path / "c.other").read_bytes() == held  # renamed back, it is gone on from


def test_checkpoint_of_another_arithmetic_is_not_used(tmp_path, monkeypatch):
    """``auto`` means other products on another machine: half of each would be neither."""
    monkeypatch.setattr(training, "has_bfloat16_units", lambda device: True)
    stopped(tmp_path / "c", precision="auto")
    monkeypatch.setattr(training, "has_bfloat16_units", lambda device: False)
    with pytest.warns(UserWarning, match="another arithmetic"):
        net = train(pixels(), **TINY, precision="auto", checkpoint=tmp_path / "c")
    assert_same_weights(net, undisturbed())


def test_checkpoint_of_another_version_of_a_step_is_not_used(tmp_path, monkeypatch):
    stopped(tmp_path / "c")
    monkeypatch.setattr(training, "ARITHMETIC", training.ARITHMETIC + 1)
    with pytest.warns(UserWarning, match="another arithmetic"):
        net = train(pixels(), **TINY, checkpoint=tmp_path / "c")
    assert_same_weights(net, undisturbed())


def test_8_bit_and_float_images_share_a_checkpoint(tmp_path):
    stopped(tmp_path / "c", pixels())
    net = train(pixels().float() / 255, **TINY, checkpoint=tmp_path / "c")
    assert_same_weights(net, undisturbed())


# --- numbers that are not finite --------------------------------------------------------------------


def poison_weight(optimizer):
    optimizer.param_groups[0]["params"][0].data[0] = math.nan


def poison_moment(optimizer):
    next(iter(optimizer.state.values()))["exp_avg_sq"].fill_(math.inf)


@pytest.mark.parametrize("poison", [poison_weight, poison_moment])
@pytest.mark.parametrize("at", [13, 110])
def test_bad_state_never_replaces_the_good_checkpoint(poison, at, tmp_path, monkeypatch):
    """There are fewer rows than steps: some checkpoints fall between two rows."""
    calls, inner = [0], torch.optim.Adam.step

    def step(self):
        inner(self)
        calls[0] += 1
        if calls[0] == at:
            poison(self)

    step.hooked = True
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", step)
        patch.setattr(training, "CHECKPOINT_SECONDS", -1)
        with pytest.raises(TrainingFailed, match=rf"denoiser failed after {at * 8:,} images: .*not finite"):
            train(pixels(), **(TINY | {"images_seen": 880}), checkpoint=tmp_path / "c")
    held = safetensors.torch.load_file(tmp_path / "c")
    assert all(bool(value.isfinite().all()) for value in held.values())
    assert float(held["optimizer.0.step"]) == at - 1
    resumed = train(pixels(), **(TINY | {"images_seen": 880}), checkpoint=tmp_path / "c")
    assert_same_weights(resumed, undisturbed(images_seen=880))


def test_bad_running_value_is_noticed_without_a_checkpoint(monkeypatch):
    inner = training._Run.report

    def report(self, bar):
        inner(self, bar)
        if self.seen == self.total:
            self.net.noise[3].running_sd[1] = math.inf

    monkeypatch.setattr(training._Run, "report", report)
    with pytest.raises(TrainingFailed, match="running_sd is not finite"):
        train(pixels(), **TINY)


def test_diverging_training_names_the_recipe(tmp_path):
    recipe = Recipe("faces-S1-N10", {}, size=TINY["size"], batch_size=8, images_seen=400, learning_rate=1e30)
    with pytest.raises(TrainingFailed, match=r"faces-S1-N10 failed after .*(1e\+30)"):
        train(pixels(), recipe, checkpoint=tmp_path / "c", progress=False)
    assert not (tmp_path / "c").exists()


def test_ctrl_c_during_a_failure_keeps_the_good_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", math.inf)
    stopped(tmp_path / "c")
    kept, inner = (tmp_path / "c").read_bytes(), torch.optim.Adam.step

    def step(self):
        inner(self)
        poison_weight(self)
        signal.raise_signal(signal.SIGINT)

    step.hooked = True
    monkeypatch.setattr(torch.optim.Adam, "step", step)
    with pytest.raises(KeyboardInterrupt):
        train(pixels(), **TINY, checkpoint=tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == kept
