"""``load_released`` against a plain forward pass over the tensors of the file, in each published layout.

``data/bf_cnn_rf13.npz`` holds an untrained network in the layout of BF_CNN_RF with an output of it that was computed
apart. More such files, and the authors' own, are tested where ``GAHB_RELEASED`` names the folder that holds them.
"""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from released_layouts import (
    checkpoint_layout,
    later_layout,
    plain_forward,
    plain_layout,
    plain_unet,
    unet_layout,
    weights,
)

from gahb import BFCNN, UNet, adaptive_basis, jacobian, load_released

LAYOUTS = [plain_layout, later_layout, checkpoint_layout]


def noisy(in_channels=1, height=9, width=10):
    return torch.rand(2, in_channels, height, width, generator=torch.Generator().manual_seed(6))


def save(content, folder, **options):
    torch.save(content, folder / "net.pt", **options)
    return folder / "net.pt"


def check(path, parts, **options):
    net, y = load_released(path, **options), noisy(parts[0][0].shape[1])
    assert isinstance(net, BFCNN)
    assert (net.depth, net.channels) == (len(parts[0]), len(parts[0][0]))
    compare(net, y, plain_forward(y, *parts, **options))


def compare(net, y, expected):
    assert not any(module.training for module in net.modules())
    # The square root of running_var and the quotient gain / sd round differently in float32.
    torch.testing.assert_close(net(y).detach(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sizes", [{}, {"depth": 3, "channels": 4, "in_channels": 3}, {"depth": 13, "channels": 2}])
def test_every_layout_depth_and_width(tmp_path, layout, sizes):
    parts = weights(**sizes)  # depth 13: the tenth layer comes after the ninth, not after the first
    content = layout(*parts)
    check(save(dict(reversed(content.items())), tmp_path), parts)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers(tmp_path, layout, prefix):
    parts = weights()
    content = layout(*parts)
    state = content.get("model", content)
    prefixed = {prefix + key: value for key, value in state.items()}
    check(save(content | {"model": prefixed} if "model" in content else prefixed, tmp_path), parts)


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


RF = [3, 1, 1, 3, 1, 3]  # kernel sizes of a BF_CNN_RF


def test_no_relu_follows_the_first_convolution_where_some_kernels_are_1x1(tmp_path):
    parts = weights(depth=6, kernels=RF)
    net, y = load_released(save(later_layout(*parts), tmp_path)), noisy()
    compare(net, y, plain_forward(y, *parts, first_relu=False))


def test_network_whose_output_was_computed_apart(tmp_path):
    with np.load(Path(__file__).parent / "data" / "bf_cnn_rf13.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file}
    y, noise = arrays.pop("y"), arrays.pop("network_output")
    compare(load_released(save(arrays, tmp_path)), y, y - noise)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("sizes", [(4, 2, 1), (3, 1, 3), (2, 4, 1)])
def test_unet_of_every_size(tmp_path, sizes, prefix):
    state, y = unet_layout(*sizes), noisy(sizes[2], 32, 16)
    net = load_released(save({prefix + key: value for key, value in reversed(state.items())}, tmp_path))
    assert isinstance(net, UNet)
    assert (net.channels, net.blocks, net.in_channels) == sizes
    compare(net, y, plain_unet(y, state))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_files_of_half_precision(tmp_path, dtype):
    """The network of the rounded numbers, in float32."""
    state, y = {key: value.to(dtype) for key, value in unet_layout().items()}, noisy(1, 8, 12)
    net = load_released(save(state, tmp_path))
    assert {value.dtype for value in net.state_dict().values()} == {torch.float32}
    compare(net, y, plain_unet(y, {key: value.float() for key, value in state.items()}))
    parts = [[value.to(dtype) for value in part] for part in weights()]
    check(save(later_layout(*parts), tmp_path), [[value.float() for value in part] for part in parts])


def analysed(kind):
    """A state dict, options for reading it, and its denoiser in plain float64."""
    channels = 3 if "color" in kind else 1
    if kind.startswith("UNet"):
        state = unet_layout(3, 2, channels)
        exact = {key: value.double() for key, value in state.items()}
        return state, {}, lambda y: plain_unet(y, exact)
    first_relu = kind == "BF_CNN"
    parts = weights(6, 5, channels, RF if kind == "BF_CNN_RF" else None)
    exact = [[value.double() for value in part] for part in parts]
    options = {} if kind == "BF_CNN_RF" else {"first_relu": first_relu}
    return later_layout(*parts), options, lambda y: plain_forward(y, *exact, first_relu=first_relu)


KINDS = {
    "BF_CNN": (1, 7, 9),
    "BF_CNN, linear first layer, color": (3, 5, 6),
    "BF_CNN_RF": (1, 9, 7),
    "UNet": (1, 8, 12),
    "UNet, color": (3, 4, 8),
}


@pytest.mark.parametrize("kind", KINDS)
def test_jacobian_and_its_basis_are_those_of_the_rows(tmp_path, kind):
    state, options, plain = analysed(kind)
    net = load_released(save(state, tmp_path), **options)
    y = torch.from_numpy(np.random.default_rng(1).random((1, *KINDS[kind])))
    x = y.clone().requires_grad_()
    rows = [torch.autograd.grad(value, x, retain_graph=True)[0] for value in plain(x).flatten()]
    rows = torch.stack(rows).flatten(1)
    torch.testing.assert_close(jacobian(net, y), rows, rtol=0, atol=1e-11 * float(rows.abs().max()))
    values = np.linalg.eigvalsh((rows + rows.T).numpy() / 2)[::-1]
    basis = adaptive_basis(net, y, k=5)
    np.testing.assert_allclose(basis.shrinkage, values[:5], rtol=1e-3)
    symmetric = basis.vectors.flatten(1) @ (rows + rows.T) / 2
    np.testing.assert_allclose(symmetric, basis.shrinkage[:, None] * basis.vectors.flatten(1), atol=1e-3 * values[0])


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


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_file_is_called_damaged(tmp_path, zipped):
    path = save(plain_layout(*weights()), tmp_path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for size in (0, 1, 10, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"net\.pt was refused: it is damaged"):
            load_released(path)


SAVED = {
    "web page.* 'Download raw file'": b"\n\n<!DOCTYPE html>\n<html lang='en'><head><title>model.pt</title>",
    "Git LFS pointer.* 'git lfs pull'": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 30654321\n",
}


@pytest.mark.parametrize("words", SAVED)
def test_what_was_saved_in_place_of_a_file_is_named(tmp_path, words):
    path = tmp_path / "0to255_set_size_10" / "model.pt"
    path.parent.mkdir()
    path.write_bytes(SAVED[words])
    with pytest.raises(ValueError, match=rf"^0to255_set_size_10/model\.pt was refused: it is a {words}"):
        load_released(path)


@pytest.mark.parametrize("content", [bytes(range(256)), pickle.dumps({"a": 1})])
def test_file_of_another_kind_is_called_damaged(tmp_path, content):
    (tmp_path / "net.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged or not a file of torch\.save"):
        load_released(tmp_path / "net.pt")


def bf_cnn(**parts):
    """A state dict with these tensors in place of its own; None removes one."""
    return changed(plain_layout(*weights()), parts)


def unet(**parts):
    return changed(unet_layout(), parts)


def changed(state, parts):
    state |= {key.replace("__", "."): value for key, value in parts.items()}
    return {key: value for key, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"noise.0.weight": torch.ones(2, 1, 3, 3)}, r"expected keys conv_layers.*found noise\.0\.weight"),
        ({"conv_layers.0.weight": 3}, "found none"),
        (torch.ones(3), "holds a Tensor"),
        ([1, 2], "holds a int"),
        (
            bf_cnn(conv_layers__2__weight=None),
            r"does not hold the layers of a BF-CNN: conv_layers\.2\.weight is missing",
        ),
        (bf_cnn(conv_layers__4__weight=None), r"expected conv_layers\.3\.weight of shape \(1, 6, 3, 3\)"),
        (bf_cnn(gammas__1=None), r"gammas\.1 is missing"),
        (bf_cnn(gammas__3=torch.ones(6)), r"gammas\.3 is no part of it"),
        (bf_cnn(conv_layers__2__weight=torch.ones(6, 6, 1, 3)), r"expected.*\(6, 6, 3, 3\).*\(6, 6, 1, 3\)"),
        (bf_cnn(conv_layers__0__weight=torch.ones(6, 1, 4, 4)), r"kernel_sizes must be one odd number"),
        (bf_cnn(conv_layers__0__weight=torch.ones(6, 1)), r"four dimensions, found the shape \(6, 1\)"),
        (bf_cnn(running_sd__0=torch.ones(1)), r"expected.*\(6,\).*\(1,\)"),
        (bf_cnn(running_sd__0=0 * torch.ones(6)), r"running_sd\.0 must be finite, and above 0"),
        (bf_cnn(gammas__0=torch.nan * torch.ones(6)), r"gammas\.0 must be finite"),
        (
            bf_cnn(conv_layers__0__weight=torch.ones(6, 2, 3, 3)),
            r"it takes 2 channels and returns 1, as the authors' conditional",
        ),
        (unet(mid_block__3__weight=None), r"layers of the authors' UNet: mid_block\.3\.weight is missing"),
        (unet(encoder__1__4__gammas=torch.ones(4)), r"expected encoder\.1\.4\.gammas of shape \(8,\), found \(4,\)"),
        (unet(encoder__0__5__weight=torch.ones(4, 4, 3, 3)), r"encoder\.0\.5\.weight is no part of it"),
        (unet(upsample__1__weight=None), r"upsample\.1\.weight is missing"),
    ],
)
def test_file_with_another_network_is_refused(tmp_path, content, words):
    with pytest.raises(ValueError, match=words):
        load_released(save(content, tmp_path))


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("conv1.weight", r"the UNet of bias_free_denoising.*\(conv1\.weight\)"),
        ("cnn.first_layer.weight", "the recurrent network \\(R-CNN\\) of bias_free_denoising"),
        ("cnn_list.0.first_layer.bias", "the DenseNet of bias_free_denoising"),
        ("conv_layers.0.bias", "not bias-free"),
        ("hidden_layer_list.3.bias", "not bias-free"),
        ("encoder.0.0.bias", "not bias-free"),
        ("model.0.bias", "not bias-free"),
        ("gammas.0.weight", r"an early BF-CNN, whose running values are in a second file"),
    ],
)
def test_network_of_another_kind_is_named(tmp_path, key, words):
    content = {"module." + key: torch.ones(6), "module.first_layer.weight": torch.ones(6, 1, 3, 3)}
    with pytest.raises(ValueError, match=rf"net\.pt holds .*{words}.*; gahb reads the authors' BF-CNN, BF_CNN_RF and"):
        load_released(save({"model": [content]}, tmp_path))


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


@pytest.mark.skipif(not FOLDER, reason="GAHB_RELEASED names no folder with the authors' files")
@pytest.mark.parametrize("name", ["unet_layout_8_kernels_3_blocks_gray", "bf_cnn_layout_rf13_12_kernels_gray"])
def test_networks_in_the_later_layouts(name):
    """Untrained ones, whose outputs were computed apart."""
    io = torch.load(Path(FOLDER) / f"{name}_io.pt", weights_only=True)
    compare(load_released(Path(FOLDER) / f"{name}.pt"), io["y"], io["denoised"])
