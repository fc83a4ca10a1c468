"""Small networks of random weights in the layouts in which the authors published theirs, and plain forward passes."""

import argparse
from itertools import pairwise

import torch
from torch.nn import functional as F


def tensors(*shapes):
    """Random kernels that keep the size of what they see."""
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator) / (9 * shape[1]) ** 0.5 for shape in shapes]


def norms(*widths):
    """Running values and gains."""
    generator = torch.Generator().manual_seed(4)
    sds = [torch.rand(width, generator=generator) + 0.5 for width in widths]
    return sds, [torch.randn(width, generator=generator) for width in widths]


def weights(depth=5, channels=6, in_channels=1, kernels=None):
    """Convolutions, running values and gains of a small BF-CNN."""
    widths = [in_channels, *[channels] * (depth - 1), in_channels]
    pairs = zip(pairwise(widths), kernels or [3] * depth, strict=True)
    shapes = [(after, before, k, k) for (before, after), k in pairs]
    return tensors(*shapes), *norms(*widths[2:-1])


def plain_layout(convs, sds, gains, norm="{name}.{i}"):
    """The state dict of a BF-CNN."""
    state = {f"conv_layers.{i}.weight": conv for i, conv in enumerate(convs)}
    for i, (sd, gain) in enumerate(zip(sds, gains, strict=True)):
        state[norm.format(name="running_sd", i=i)] = sd[None, :, None, None]
        state[norm.format(name="gammas", i=i)] = gain[None, :, None, None]
    return state


def later_layout(convs, sds, gains):
    """The same in the authors' later releases."""
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


def plain_forward(y, convs, sds, gains, first_relu=True):
    """A BF-CNN in plain torch."""
    x = F.conv2d(y, convs[0], padding="same")
    x = F.relu(x) if first_relu else x
    for conv, sd, gain in zip(convs[1:-1], sds, gains, strict=True):
        x = F.relu(F.conv2d(x, conv, padding="same") / sd[:, None, None] * gain[:, None, None])
    return y - F.conv2d(x, convs[-1], padding="same")


def unet_layout(channels=4, blocks=2, in_channels=1):
    """The state dict of a UNet as the authors name its tensors."""
    shapes = {"encoder.0.0": (channels, in_channels), "encoder.0.2": (channels, channels)}
    widths = {"encoder.0.3": channels}

    def two(block, before, after):
        shapes.update({f"{block}.0": (after, before), f"{block}.3": (after, after)})
        widths.update({f"{block}.1": after, f"{block}.4": after})

    for b in range(blocks):
        narrow, wide = channels * 2**b, channels * 2 ** (b + 1)
        two(f"encoder.{b + 1}" if b < blocks - 1 else "mid_block", narrow, wide)
        two(f"decoder.{b}", wide, narrow)
    shapes["decoder.0.3"] = in_channels, channels
    del widths["decoder.0.4"]
    ups = {f"upsample.{b}": (channels * 2 ** (b + 1), channels * 2**b, 2, 2) for b in range(blocks)}
    convs = tensors(*((*shape, 3, 3) for shape in shapes.values()), *ups.values())
    state = {f"{key}.weight": conv for key, conv in zip(shapes | ups, convs, strict=True)}
    for key, sd, gain in zip(widths, *norms(*widths.values()), strict=True):
        state |= {f"{key}.gammas": gain[None, :, None, None], f"{key}.running_sd": sd[None, :, None, None]}
    return state


def plain_unet(y, state):
    """A UNet in plain torch, over the tensors of its file."""

    def conv(x, key):
        return F.conv2d(x, state[f"{key}.weight"], padding=1)

    def norm(x, key):
        return F.relu(x / state[f"{key}.running_sd"] * state[f"{key}.gammas"])

    def two(x, block):
        return norm(conv(norm(conv(x, f"{block}.0"), f"{block}.1"), f"{block}.3"), f"{block}.4")

    blocks = sum(key.startswith("upsample") for key in state)
    skips = [norm(conv(F.relu(conv(y, "encoder.0.0")), "encoder.0.2"), "encoder.0.3")]
    for b in range(1, blocks):
        skips.append(two(F.avg_pool2d(skips[-1], 2), f"encoder.{b}"))
    x = two(F.avg_pool2d(skips[-1], 2), "mid_block")
    for b in reversed(range(blocks)):
        x = torch.cat([F.conv_transpose2d(x, state[f"upsample.{b}.weight"], stride=2), skips[b]], 1)
        x = two(x, f"decoder.{b}") if b else conv(norm(conv(x, "decoder.0.0"), "decoder.0.1"), "decoder.0.3")
    return y - x
