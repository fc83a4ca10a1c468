"""``load_released`` against a plain forward pass over the tensors of the file, in each published layout.

The authors' own files are tested where ``GAHB_RELEASED`` names the folder that holds them.
"""

import argparse
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from torch.nn import functional as F

from gahb import BFCNN, load_released


def tensors(*shapes):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator) / (9 * shape[1]) ** 0.5 for shape in shapes]


def weights(depth=5, channels=6, in_channels=1):
    """Convolutions, running values and gains of a small network."""
    middle = [(channels, channels, 3, 3)] * (depth - 2)
    convs = tensors((channels, in_channels, 3, 3), *middle, (in_channels, channels, 3, 3))
    generator = torch.Generator().manual_seed(4)
    sds = [torch.rand(channels, generator=generator) + 0.5 for _ in middle]
    gains = [torch.randn(channels, generator=generator) for _ in middle]
    return convs, sds, gains


def plain_layout(convs, sds, gains, norm="{name}.{i}"):
    state = {f"conv_layers.{i}.weight": conv for i, conv in enumerate(convs)}
    for i, (sd, gain) in enumerate(zip(sds, gains, strict=True)):
        state[norm.format(name="running_sd", i=i)] = sd[None, :, None, None]
        state[norm.format(name="gammas", i=i)] = gain[None, :, None, None]
    return state


def later_layout(convs, sds, gains):
    return plain_layout(convs, sds, gains, "BN_layers.{i}.{name}")


def checkpoint_layout(convs, sds, gains):
    """Its norm divides by sqrt(running_var) + 1e-5; mean and bias are in the file and unused."""
    model = {"first_layer.weight": convs[0], "last_layer.weight": convs[-1]}
    model |= {f"hidden_layer_list.{i}.weight": conv for i, conv in enumerate(convs[1:-1])}
    for i, (sd, gain) in enumerate(zip(sds, gains, strict=True)):
        model[f"bn_layer_list.{i}.running_var"] = (sd - 1e-5) ** 2
        model[f"bn_layer_list.{i}.weight"] = gain
        model[f"bn_layer_list.{i}.bias"] = torch.full_like(gain, 7.0)
        model[f"bn_layer_list.{i}.running_mean"] = torch.full_like(gain, 9.0)
        model[f"bn_layer_list.{i}.num_batches_tracked"] = torch.tensor(12)
    return {"model": model, "args": argparse.Namespace(lr=1e-3, bias=False), "epoch": 3}


LAYOUTS = [plain_layout, later_layout, checkpoint_layout]


def plain_forward(y, convs, sds, gains, first_relu=True):
    x = F.conv2d(y, convs[0], padding=1)
    x = F.relu(x) if first_relu else x
    for conv, sd, gain in zip(convs[1:-1], sds, gains, strict=True):
        x = F.relu(F.conv2d(x, conv, padding=1) / sd[:, None, None] * gain[:, None, None])
    return y - F.conv2d(x, convs[-1], padding=1)


def noisy(in_channels=1):
    return torch.rand(2, in_channels, 9, 10, generator=torch.Generator().manual_seed(6))


def save(content, folder, **options):
    torch.save(content, folder / "net.pt", **options)
    return folder / "net.pt"


def check(path, parts, **options):
    net, y = load_released(path, **options), noisy(parts[0][0].shape[1])
    assert isinstance(net, BFCNN)
    assert not any(module.training for module in net.modules())
    assert (net.depth, net.channels) == (len(parts[0]), len(parts[0][0]))
    expected = plain_forward(y, *parts, **options)
    # The square root of running_var and the quotient gain / sd round differently in float32.
    torch.testing.assert_close(net(y).detach(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sizes", [{}, {"depth": 3, "channels": 4, "in_channels": 3}, {"depth": 13, "channels": 2}])
def test_every_layout_depth_and_width(tmp_path, layout, sizes):
    parts = weights(**sizes)  # depth 13: the tenth layer comes after the ninth, not after the first
    check(save(layout(*parts), tmp_path), parts)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers(tmp_path, layout, prefix):
    parts = weights()
    content = layout(*parts)
    state = content.get("model", content)
    prefixed = {prefix + key: value for key, value in state.items()}
    check(save(content | {"model": prefixed} if "model" in content else prefixed, tmp_path), parts)


def test_order_of_the_keys_does_not_matter(tmp_path):
    parts = weights(depth=13)
    check(save(dict(reversed(plain_layout(*parts).items())), tmp_path), parts)


def test_checkpoint_holding_a_list_of_one_model(tmp_path):
    parts = weights()
    content = checkpoint_layout(*parts)
    check(save(content | {"model": [content["model"]]}, tmp_path), parts)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_small_running_values(tmp_path, layout):
    """At a standard deviation of 1e-3 the checkpoint's 1e-5, which is added to it, counts for 1 %."""
    convs, sds, gains = weights()
    parts = convs, [1e-3 * sd for sd in sds], [1e-3 * gain for gain in gains]
    check(save(layout(*parts), tmp_path), parts)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_first_relu_is_the_callers(tmp_path, layout):
    parts = weights()
    check(save(layout(*parts), tmp_path), parts, first_relu=False)


def test_file_in_double_precision_and_in_the_format_before_zip(tmp_path):
    parts = weights()
    doubled = [[value.double() for value in part] for part in parts]
    check(save(plain_layout(*doubled), tmp_path, _use_new_zipfile_serialization=False), parts)


class Plant:
    """A pickle that makes a file when it is run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_file_with_code_is_refused_and_nothing_runs(tmp_path, zipped):
    planted = tmp_path / "planted"
    content = plain_layout(*weights()) | {"extra": Plant(planted)}
    path = save(content, tmp_path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"net\.pt was refused: reading it would run code.*never does"):
        load_released(path)
    assert not planted.exists()
    torch.load(path, weights_only=False)  # the plant works
    assert planted.exists()


def test_whole_pickled_module_is_refused(tmp_path):
    with pytest.raises(ValueError, match="would run code"):
        load_released(save(BFCNN(3, 2), tmp_path))


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_file_is_called_damaged(tmp_path, zipped):
    path = save(plain_layout(*weights()), tmp_path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for size in (0, 1, 10, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"net\.pt was refused: it is damaged"):
            load_released(path)


@pytest.mark.parametrize("content", [b"<html>quota exceeded</html>", bytes(range(256)), pickle.dumps({"a": 1})])
def test_file_of_another_kind_is_called_damaged(tmp_path, content):
    (tmp_path / "net.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged or not a file of torch\.save"):
        load_released(tmp_path / "net.pt")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.pt"):
        load_released(tmp_path / "absent.pt")


def changed(**changes):
    state = plain_layout(*weights())
    for key, value in changes.items():
        key = key.replace("__", ".")
        if value is None:
            del state[key]
        else:
            state[key] = value
    return state


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"noise.0.weight": torch.ones(2, 1, 3, 3)}, r"expected keys conv_layers.*found noise\.0\.weight"),
        ({"conv_layers.0.weight": 3}, "found none"),
        (torch.ones(3), "holds a Tensor"),
        ([1, 2], "holds a int"),
        (changed(conv_layers__2__weight=None), "does not hold the layers"),
        (changed(gammas__1=None), "does not hold the layers"),
        (changed(conv_layers__2__weight=torch.ones(6, 6, 1, 1)), r"expected.*\(6, 6, 3, 3\).*\(6, 6, 1, 1\)"),
        (changed(conv_layers__0__weight=torch.ones(6, 1, 5, 5)), r"expected.*\(6, 1, 3, 3\).*\(6, 1, 5, 5\)"),
        (changed(running_sd__0=torch.ones(1)), r"expected.*\(6,\).*\(1,\)"),
        (changed(conv_layers__0__bias=torch.ones(6)), "not bias-free"),
    ],
)
def test_file_with_another_network_is_refused(tmp_path, content, words):
    with pytest.raises(ValueError, match=words):
        load_released(save(content, tmp_path))


FOLDER = os.environ.get("GAHB_RELEASED")
FILES = ["bf_cnn_bsd400_gray_0to100.pt", "bf_dncnn_bsd400_gray_0to55.pt"]


@pytest.mark.skipif(not FOLDER, reason="GAHB_RELEASED names no folder with the authors' files")
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("photograph", "floor"), [("camera", 30.1), ("coins", 28.0)])
def test_published_networks_denoise_photographs(name, photograph, floor):
    """PSNR at sigma = 25/255, where the noise alone has 20.2 dB; the floors are 0.1 dB under what was measured."""
    net = load_released(Path(FOLDER) / name)
    assert sum(p.numel() for p in net.parameters()) == 665_856
    clean = getattr(skimage.data, photograph)()[100:260, 150:310] / 255
    y = clean + 25 / 255 * np.random.default_rng(0).standard_normal(clean.shape)
    with torch.no_grad():
        denoised = net(torch.from_numpy(y).float()[None, None])[0, 0].double().numpy()
    psnr = -10 * np.log10(np.mean((denoised - clean) ** 2))
    assert floor < psnr < floor + 2
