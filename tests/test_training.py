"""Training against a plain torch reference written here, formulas, and itself bit for bit."""

import io
import math
import operator
import random
import signal
import sys
import threading
from itertools import pairwise

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import assert_same_weights, assert_undisturbed, pixels, trained, without_seconds
from torch.nn import functional as F

from gahb.training import Recipe, TrainingStopped, train
from gahb.training.step import draw_sigmas, learning_rate

# --- the arithmetic of a step ---------------------------------------------------------------------


def reference(x_all, steps, batch, rates, channels, seed, distribution, sigma_max, power):
    """Three convolutions, their gains, Adam: from the formulas of the paper and of Kingma & Ba."""
    draw = torch.Generator().manual_seed(seed)
    c, fan_in = x_all.shape[1], 9
    shapes = [(channels, c, 3, 3), (channels, channels, 3, 3), (c, channels, 3, 3)]
    weights = [torch.empty(s).normal_(0, math.sqrt(2 / (s[1] * fan_in)), generator=draw) for s in shapes]
    weights = [weights[0], weights[1], torch.ones(channels), weights[2]]
    running, losses, means = torch.ones(channels), [], None
    m, v = [torch.zeros_like(w) for w in weights], [torch.zeros_like(w) for w in weights]
    draw = torch.Generator().manual_seed(seed)
    for t in range(1, steps + 1):
        picks = torch.randint(len(x_all), (batch,), generator=draw)
        u = torch.rand(batch, generator=draw)
        x = x_all[picks]
        sigma = (
            sigma_max * {"uniform": u, "sqrt-uniform": u**2, "log-uniform": torch.exp(-math.log(200) * u)}[distribution]
        )
        sigma = sigma.reshape(-1, 1, 1, 1).clamp(min=1e-3)
        y = x + sigma * torch.randn(x.shape, generator=draw)
        first, middle, gain, last = [w.requires_grad_() for w in weights]
        h = F.conv2d(F.relu(F.conv2d(y, first, padding=1)), middle, padding=1)
        sd = ((h - h.mean((0, 2, 3), keepdim=True)).pow(2).mean((0, 2, 3)) + 1e-5).sqrt()
        running = 0.9 * running + 0.1 * sd.detach()
        noise = F.conv2d(F.relu(h / sd.reshape(-1, 1, 1) * gain.reshape(-1, 1, 1)), last, padding=1)
        each = ((y - noise - x) ** 2).flatten(1).sum(1)
        if power == "balanced":  # one image after the other, levels of 4 dB below sigma_max
            errors = each.tolist()
            means = means or [sum(errors) / batch] * 12
            levels = [min(11, int(-5 * math.log10(s / sigma_max))) for s in sigma.flatten()]
            each = each / torch.tensor([means[level] for level in levels])
            means = list(means)
            for level in set(levels):
                here = [e for e, other in zip(errors, levels, strict=True) if other == level]
                keep = 0.97 ** len(here)
                means[level] = keep * means[level] + (1 - keep) * sum(here) / len(here)
        else:
            each = each / sigma.flatten() ** power
        shown = sum(errors) / batch if power == "balanced" else float(each.mean().detach())
        losses.append(shown / x[0].numel())
        gradients = torch.autograd.grad(each.mean(), weights)
        m = [0.9 * a + 0.1 * g for a, g in zip(m, gradients, strict=True)]
        v = [0.999 * a + 0.001 * g**2 for a, g in zip(v, gradients, strict=True)]
        moved = [a / (1 - 0.9**t) / ((b / (1 - 0.999**t)).sqrt() + 1e-8) for a, b in zip(m, v, strict=True)]
        weights = [(w - rates[t - 1] * step).detach() for w, step in zip(weights, moved, strict=True)]
    return weights, running, losses


@pytest.mark.parametrize(
    ("distribution", "power", "channels"),
    [
        ("uniform", 0.0, 1),
        ("sqrt-uniform", 1.0, 3),
        ("sqrt-uniform", 0.5, 1),
        ("log-uniform", 1.5, 1),
        ("sqrt-uniform", "balanced", 1),
        ("log-uniform", "balanced", 3),
    ],
)
def test_steps_equal_a_plain_reference(distribution, power, channels):
    x = pixels(channels=channels).float() / 255
    how = {
        "noise_distribution": distribution,
        "loss_weighting": power,
        "sigma_max": 0.7,
        "learning_rate": 2e-3,
        "seed": 3,
    }
    net = trained(x, images_seen=32, lr_halving_images=16, **how)
    weights, running, losses = reference(x, 4, 8, [2e-3, 2e-3, 1e-3, 1e-3], 4, 3, distribution, 0.7, power)
    for value, ours in zip(weights, net.parameters(), strict=True):
        torch.testing.assert_close(ours.detach(), value, rtol=0, atol=2e-5)  # 1 % of a step: another order of the sums
    torch.testing.assert_close(net.noise[3].running_sd, running, rtol=1e-4, atol=0)
    np.testing.assert_allclose([row["loss"] for row in net.history], losses, rtol=1e-4)
    assert not net.training


def test_noise_distributions():
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flat, low, lowest = (
        draw_sigmas(Recipe("a", {}, sigma_max=0.5, noise_distribution=name), uniform)
        for name in ("uniform", "sqrt-uniform", "log-uniform")
    )
    assert lowest.min() >= 0.5 / 200 and lowest.max() <= 0.5
    # Distribution functions s / 0.5, sqrt(s / 0.5) and 1 - log(0.5 / s) / log(200), to four standard errors.
    for s in (0.05, 0.125, 0.3):
        assert (flat < s).double().mean() == pytest.approx(s / 0.5, abs=0.015)
        assert (low < s).double().mean() == pytest.approx(math.sqrt(s / 0.5), abs=0.015)
        assert (lowest < s).double().mean() == pytest.approx(1 - math.log(0.5 / s) / math.log(200), abs=0.015)


def test_learning_rates():
    halving = Recipe("a", {}, learning_rate=0.4, lr_halving_images=100, images_seen=1000)
    assert [learning_rate(halving, seen) for seen in (0, 99, 100, 250)] == [0.4, 0.4, 0.2, 0.1]
    cycle = Recipe("a", {}, learning_rate=0.4, lr_schedule="one-cycle", images_seen=1000)
    for seen, rate in ((0, 0.016), (50, 0.208), (100, 0.4), (550, 0.2), (325, 0.4 * (2 + math.sqrt(2)) / 4), (1000, 0)):
        assert learning_rate(cycle, seen) == pytest.approx(rate, abs=1e-12)


def test_training_learns():
    """Constant images: a denoiser that averages the pixels gains far more than 6 dB."""
    levels = torch.rand(200, 1, 1, 1, generator=torch.Generator().manual_seed(1)).expand(-1, 1, 8, 8)
    how = {"lr_schedule": "one-cycle", "sigma_max": 0.5, "learning_rate": 1e-2, "images_seen": 6_400, "batch_size": 16}
    net = trained(levels[:100], network_kwargs={"depth": 4, "channels": 8}, **how)
    noise = 0.2 * torch.randn(100, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        error = (net(levels[100:] + noise) - levels[100:]).square().mean()
    assert -10 * math.log10(error) > -20 * math.log10(0.2) + 6
    assert net.history[-1]["loss"] < net.history[0]["loss"] / 4


def test_a_network_is_chosen_by_its_name_alone():
    """Arguments that are left out have the defaults of that network: 7,659,264 parameters of the UNet."""
    net = train(pixels(), network="UNet", batch_size=1, images_seen=1, progress=False)
    assert sum(p.numel() for p in net.parameters()) == 7_659_264


# --- determinism ----------------------------------------------------------------------------------


def test_type_and_memory_format_of_the_images_are_irrelevant():
    images = pixels(channels=3)
    strided = images.to(memory_format=torch.channels_last)
    assert not strided.is_contiguous()
    first = trained(images)
    for same in (strided, images.float() / 255, images.double() / 255):
        second = trained(same)
        assert_same_weights(first, second)
        assert without_seconds(first.history) == without_seconds(second.history)


@pytest.mark.parametrize("network", ["BFCNN", "UNet", "ResUNet"])
def test_same_weights_whatever_ran_before(network):
    kwargs = {"depth": 3, "channels": 4} if network == "BFCNN" else {"channels": 4, "blocks": 1}
    how = {"network": network, "network_kwargs": kwargs, "images_seen": 64, "optimizer": "muon"}
    first = trained(**how)
    torch.manual_seed(7)
    torch.rand(1000), np.random.rand(10), random.random()
    trained(pixels(5, seed=9), **how, seed=5)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            second = trained(**how)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            third = trained(**how)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert_same_weights(first, second)
    assert_same_weights(first, third)


@pytest.mark.parametrize(("products", "precision"), [("cudnn.conv", "ieee"), ("mkldnn.matmul", "bf16")])
def test_a_precision_of_the_caller_is_kept_and_changes_nothing(products, precision):
    """torch refuses to read its older settings when a newer one contradicts them."""
    place = operator.attrgetter(products)(torch.backends)
    former, place.fp32_precision = place.fp32_precision, precision
    try:
        network = trained(optimizer="muon")
        assert place.fp32_precision == precision
    finally:
        place.fp32_precision = former
    assert_same_weights(trained(optimizer="muon"), network)


def test_each_seed_gives_other_weights():
    first, second = (trained(seed=seed) for seed in (0, 1))
    assert not torch.equal(first.noise[0].weight, second.noise[0].weight)


def test_global_states_are_left_alone():
    images = pixels()
    kept = images.clone()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    flags = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32
    trained(images)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert flags == (
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32,
    )  # fmt: skip
    assert torch.equal(images, kept)


def test_trains_outside_the_main_thread():
    result = []
    worker = threading.Thread(target=lambda: result.append(trained()))
    worker.start()
    worker.join()
    assert_undisturbed(result[0])


# --- precision ------------------------------------------------------------------------------------


def test_bfloat16_is_for_the_products_only(tmp_path, monkeypatch):
    monkeypatch.setattr("gahb.training.loop.CHECKPOINT_SECONDS", -1)
    how = {"network": "ResUNet", "network_kwargs": {"channels": 4, "blocks": 1}, "learning_rate": 1e-2}
    exact = trained(**how)
    rough = trained(**how, precision="bfloat16", checkpoint=tmp_path / "c")
    held = safetensors.torch.load_file(tmp_path / "c")
    assert {key for key, value in held.items() if value.dtype != torch.float32} == {"generator"}
    assert all(value.dtype == torch.float32 for value in rough.state_dict().values())
    losses = [[row["loss"] for row in net.history] for net in (exact, rough)]
    assert losses[0] != losses[1] and losses[0][-1] < losses[0][0] / 4
    np.testing.assert_allclose(*losses, rtol=0.05)  # bfloat16 has 8 bits


@pytest.mark.parametrize(("units", "meaning"), [(True, "bfloat16"), (False, "float32")])
def test_auto_precision_follows_the_device(units, meaning, monkeypatch):
    monkeypatch.setattr("gahb.training.loop.has_bfloat16_units", lambda device: units)
    assert_same_weights(trained(precision="auto"), trained(precision=meaning))


# --- history --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seen", "batch"), [(400, 8), (401, 8), (7, 8), (10_050, 64), (1, 1)])
def test_history_rises_to_the_last_whole_batch(seen, batch):
    net = trained(images_seen=seen, batch_size=batch, lr_schedule="one-cycle")
    images, seconds = ([row[key] for row in net.history] for key in ("images", "seconds"))
    assert images[-1] == math.ceil(seen / batch) * batch
    assert all(b > a for a, b in pairwise(images)) and all(i % batch == 0 for i in images)
    assert all(b > a for a, b in pairwise(seconds))
    assert len(images) == min(100, math.ceil(seen / batch))
    start = images[-1] - batch  # of the last step; the rise of the rate, then its fall
    rise, fall = 0.04 + 9.6 * start / seen, (1 + math.cos(math.pi * (start / seen - 0.1) / 0.9)) / 2
    assert net.history[-1]["learning_rate"] == pytest.approx(1e-3 * (rise if start / seen < 0.1 else fall))


# --- progress ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tty", "pause", "low", "high"), [(True, 30, 2, 10), (False, 30, 0, 0), (False, 0.3, 1, 4)])
def test_lines_of_progress(tty, pause, low, high, monkeypatch, tmp_path):
    """0.9 s of training: at most a tick in half a second on a terminal, a line in ``pause`` seconds in a log."""
    monkeypatch.setattr("gahb._util.progress.LOG_SECONDS", pause)
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: tty)
    monkeypatch.setattr(sys, "stderr", terminal)
    with pytest.raises(TrainingStopped):
        trained(images_seen=10**9, progress=True, checkpoint=tmp_path / "c", time_limit=0.9)
    lines = [line for line in terminal.getvalue().replace("\r", "\n").split("\n") if line.strip()]
    assert low <= len(lines) <= high, lines
    assert all("img/s" in line for line in lines)


def test_no_progress_if_none_is_wanted(capsys):
    trained()
    assert capsys.readouterr() == ("", "")


# --- bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"network_kwargs": {"depth": torch.ones(1)}}, TypeError, "network_kwargs must hold only"),
        ({"network_kwargs": {"dept": 3}}, ValueError, "network_kwargs of BFCNN may have .*depth, .*, got dept"),
        ({"name": "mine"}, TypeError, "name: give a whole recipe"),
        ({"time_limit": 1.0}, ValueError, "time_limit needs a checkpoint to resume from"),
    ],
)
def test_bad_settings(settings, error, message):
    with pytest.raises(error, match=message):
        trained(**settings)


@pytest.mark.parametrize("path", [".", "file/checkpoint"])
def test_a_checkpoint_that_cannot_be_written_is_reported_before_training(path, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"is a folder|cannot be written to .*another path with checkpoint="):
        trained(images_seen=10**9, checkpoint=tmp_path / path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_fields_beside_a_recipe_are_refused():
    with pytest.raises(TypeError, match="a recipe or its fields, not both: got a recipe and seed, images_seen"):
        train(pixels(), Recipe("a", {}), seed=3, images_seen=8)


def test_a_recipe_does_not_change_with_the_callers_dict():
    data = {"class": "disks", "n": 3}
    recipe = Recipe("disks", data)
    data["n"] = 4
    recipe.settings()["data"]["n"] = 5
    assert recipe.data == {"class": "disks", "n": 3}
