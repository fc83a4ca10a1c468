"""Bias-free networks: ``net(y)`` is the denoised image.

Without additive constants a ReLU network is homogeneous and piecewise linear, so that
f(y) = grad f(y) y (Eq. 6; Mohan, Kadkhodaie, Simoncelli, Fernandez-Granda, ICLR 2020).
The networks estimate the noise; the denoised image is y minus that estimate. A seed alone
decides the initial weights: the global random state is neither read nor changed.
"""

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gahb._util import checks
from gahb._util.devices import exact_arithmetic

Denoiser = Callable[[Tensor], Tensor]  # f(y): (B, C, H, W) -> (B, C, H, W)


class _Variance(torch.autograd.Function):
    """Variance and mean of each channel of (B, C, H, W), the mean without a gradient.

    torch's own variance computes the mean again for its gradient, which is one more pass over all features.
    """

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.var_mean(x, dim=(0, 2, 3), unbiased=False)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs, output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> Tensor:
        x, mean = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a second derivative
            mean = x.mean((0, 2, 3))
        return (x - mean[:, None, None]) * (2 * gradient * gradient.numel() / x.numel())[:, None, None]


class BiasFreeBatchNorm(nn.Module):
    """Divide each channel by its standard deviation and multiply by a learned gain.

    The standard deviation is about the mean, which is not subtracted. In training mode it is
    that of the batch, and updates a running average with momentum 0.1. In evaluation mode it is
    the running average, which makes the layer linear.

    Parameters
    ----------
    channels : int
        C, the number of channels of the features.
    """

    momentum, eps = 0.1, 1e-5
    running_sd: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))
        self.register_buffer("running_sd", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize features ``x``, shape (B, C, H, W); same shape."""
        return x * (self.gain / self.sd(x)).to(x.dtype)[:, None, None]

    def sd(self, x: Tensor) -> Tensor:
        """Standard deviation of each channel of ``x``, shape (C,): of the batch in training mode."""
        if not self.training:
            return self.running_sd
        sd = (_Variance.apply(x.to(self.gain.dtype))[0] + self.eps).sqrt()
        with torch.no_grad():
            self.running_sd.lerp_(sd.detach(), self.momentum)
        return sd


def _conv(inputs: int, outputs: int, kernel: int = 3, generator: torch.Generator | None = None) -> nn.Conv2d:
    layer = nn.utils.skip_init(nn.Conv2d, inputs, outputs, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
    return layer


def _conv_norm_relu(inputs: int, outputs: int, generator: torch.Generator, kernel: int = 3) -> list[nn.Module]:
    return [_conv(inputs, outputs, kernel, generator), BiasFreeBatchNorm(outputs), nn.ReLU()]


def _halve_or_double(kind: type[nn.Module], inputs: int, outputs: int, generator: torch.Generator) -> nn.Module:
    """A convolution that halves the image, or a transposed one that doubles it; initialized to keep the variance."""
    layer = nn.utils.skip_init(kind, inputs, outputs, 2, stride=2, bias=False)
    fan_in = inputs * (4 if kind is nn.Conv2d else 1)
    nn.init.normal_(layer.weight, std=fan_in**-0.5, generator=generator)
    return layer


class BFCNN(nn.Module):
    """Bias-free convolutional denoiser of the paper (Appendix A).

    ``depth`` convolutions, 3x3 in the paper: the first with a ReLU, the middle ones with bias-free batch
    normalization and a ReLU, the last alone. The defaults have 665,856 parameters, the number
    that the paper gives; with the 21 layers of its text there would be 702,784.

    Parameters
    ----------
    depth : int
        Number of convolutions, at least 2.
    channels : int
        Channels of the hidden layers.
    in_channels : int
        Channels of the image.
    seed : int
        Seed of the initial weights (Kaiming normal, fan-in).
    first_relu : bool
        Whether a ReLU follows the first convolution.
    kernel_sizes : int or sequence of int
        Side of the kernels, odd: one for all convolutions, or one for each.
    """

    def __init__(
        self,
        depth: int = 20,
        channels: int = 64,
        in_channels: int = 1,
        seed: int = 0,
        first_relu: bool = True,
        kernel_sizes: int | Sequence[int] = 3,
    ) -> None:
        super().__init__()
        self.depth = checks.count(depth, "depth", 2)
        self.channels = checks.count(channels, "channels")
        self.in_channels = checks.count(in_channels, "in_channels")
        first, *middle, last = _kernel_sizes(kernel_sizes, depth)
        generator = torch.Generator().manual_seed(seed)
        layers: list[nn.Module] = [_conv(in_channels, channels, first, generator)]
        if first_relu:
            layers.append(nn.ReLU())
        for kernel in middle:
            layers += _conv_norm_relu(channels, channels, generator, kernel)
        layers.append(_conv(channels, in_channels, last, generator))
        self.noise = nn.Sequential(*layers)

    def forward(self, y: Tensor) -> Tensor:
        """Denoise ``y``, shape (B, C, H, W), intensities in [0, 1]; same shape."""
        x = _network_input(y, self.in_channels)
        return y - (self._noise_in_training(x) if self.training else self.noise(x))

    def _noise_in_training(self, x: Tensor) -> Tensor:
        """``self.noise(x)``, with each normalization moved into the weights of the next convolution.

        The gradient of its factors is then computed from weights, without a sum over features. A
        ReLU commutes with the size of a factor but not with its sign, which is applied before it.
        """
        size = 1
        for layer in self.noise:
            if isinstance(layer, BiasFreeBatchNorm):
                sign = torch.where(layer.gain < 0, -1.0, 1.0).to(layer.gain.dtype)
                size = (sign * layer.gain / layer.sd(x))[:, None, None]
                x = x * sign.to(x.dtype)[:, None, None]
            elif isinstance(layer, nn.Conv2d):
                x, size = F.conv2d(x, layer.weight * size, padding=layer.padding), 1
            else:
                x = layer(x)
        return x


def _kernel_sizes(sizes: int | Sequence[int], depth: int) -> Sequence[int]:
    each: Sequence = sizes if isinstance(sizes, list | tuple) else [sizes] * depth  # text is no sequence of sizes
    if len(each) != depth or any(checks.count(size, "kernel_sizes") % 2 == 0 for size in each):
        raise ValueError(f"kernel_sizes must be one odd number, or one for each of {depth} convolutions, got {each}")
    return each


class UNet(nn.Module):
    """Bias-free UNet of the paper's later versions.

    Encoder blocks of two convolutions and an average pooling, channels doubling; a middle
    block; decoder blocks of a transposed convolution, the skip connection and two
    convolutions. The defaults have 7,659,264 parameters. A height or width that is not a
    multiple of ``2**blocks`` is padded by repeating the border, and cropped at the end.

    Parameters
    ----------
    channels : int
        Channels of the first block.
    blocks : int
        Number of poolings.
    in_channels : int
        Channels of the image.
    seed : int
        Seed of the initial weights.
    """

    def __init__(self, channels: int = 64, blocks: int = 3, in_channels: int = 1, seed: int = 0) -> None:
        super().__init__()
        self.channels = checks.count(channels, "channels")
        self.blocks = checks.count(blocks, "blocks")
        self.in_channels = checks.count(in_channels, "in_channels")
        generator = torch.Generator().manual_seed(seed)
        widths = [channels * 2**b for b in range(blocks + 1)]
        first = [_conv(in_channels, channels, generator=generator), nn.ReLU()]
        first += _conv_norm_relu(channels, channels, generator)
        self.encoder = nn.ModuleList([nn.Sequential(*first)])
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        for narrow, wide in itertools.pairwise(widths):
            both = _conv_norm_relu(narrow, wide, generator) + _conv_norm_relu(wide, wide, generator)
            self.encoder.append(nn.Sequential(*both))
            up = _halve_or_double(nn.ConvTranspose2d, wide, narrow, generator)
            last = _conv_norm_relu(narrow, narrow, generator)
            if narrow == channels:
                last = [_conv(narrow, in_channels, generator=generator)]
            self.up.append(up)
            self.decoder.append(nn.Sequential(*_conv_norm_relu(wide, narrow, generator), *last))

    def forward(self, y: Tensor) -> Tensor:
        """Denoise ``y``, shape (B, C, H, W), intensities in [0, 1]; same shape."""
        height, width = _network_input(y, self.in_channels).shape[-2:]
        x, skips = _padded(y, 2**self.blocks), []
        for block in self.encoder[:-1]:
            skips.append(block(x))
            x = F.avg_pool2d(skips[-1], 2)
        x = self.encoder[-1](x)
        for up, block, skip in zip(reversed(self.up), reversed(self.decoder), reversed(skips), strict=True):
            x = block(torch.cat([up(x), skip], dim=1))
        return y - x[..., :height, :width]


class ResUNet(nn.Module):
    """Bias-free UNet of residual blocks: cheaper than :class:`UNet`, and as good after fewer images.

    Each level has one residual block on the way down and one on the way up; the middle has two.
    2x2 convolutions halve the image and double the channels; a 1x1 convolution merges the skip
    connection. After He et al. (CVPR 2016) and Zhang et al., "Plug-and-play image
    restoration with deep denoiser prior" (DRUNet, TPAMI 2021), with bias-free batch normalization.
    The defaults have 217,312 parameters.

    Parameters
    ----------
    channels : int
        Channels of the first level.
    blocks : int
        Number of halvings; sizes that are not a multiple of ``2**blocks`` as in :class:`UNet`.
    in_channels : int
        Channels of the image.
    seed : int
        Seed of the initial weights.
    """

    def __init__(self, channels: int = 16, blocks: int = 2, in_channels: int = 1, seed: int = 0) -> None:
        super().__init__()
        self.channels = checks.count(channels, "channels")
        self.blocks = checks.count(blocks, "blocks")
        self.in_channels = checks.count(in_channels, "in_channels")
        generator = torch.Generator().manual_seed(seed)
        widths = [channels * 2**b for b in range(blocks + 1)]
        self.first = _conv(in_channels, channels, generator=generator)
        self.encoder, self.down = nn.ModuleList(), nn.ModuleList()
        self.up, self.merge, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for narrow, wide in itertools.pairwise(widths):
            self.encoder.append(_Residual(narrow, generator))
            self.down.append(_halve_or_double(nn.Conv2d, narrow, wide, generator))
            self.up.append(_halve_or_double(nn.ConvTranspose2d, wide, narrow, generator))
            self.merge.append(_conv(2 * narrow, narrow, 1, generator))
            self.decoder.append(_Residual(narrow, generator))
        self.middle = nn.Sequential(_Residual(widths[-1], generator), _Residual(widths[-1], generator))
        self.last = _conv(channels, in_channels, generator=generator)

    def forward(self, y: Tensor) -> Tensor:
        """Denoise ``y``, shape (B, C, H, W), intensities in [0, 1]; same shape."""
        height, width = _network_input(y, self.in_channels).shape[-2:]
        x, skips = self.first(_padded(y, 2**self.blocks)), []
        for block, down in zip(self.encoder, self.down, strict=True):
            skips.append(block(x))
            x = down(skips[-1])
        x = self.middle(x)
        for up, merge, block in list(zip(self.up, self.merge, self.decoder, strict=True))[::-1]:
            x = block(merge(torch.cat([up(x), skips.pop()], dim=1)))
        return y - self.last(x)[..., :height, :width]


class _Residual(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))); starts as nearly the identity, with a small branch."""

    def __init__(self, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        conv, norm = _conv(channels, channels, generator=generator), BiasFreeBatchNorm(channels)
        self.branch = nn.Sequential(*_conv_norm_relu(channels, channels, generator), conv, norm)
        nn.init.constant_(norm.gain, 0.2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


NETWORKS: dict[str, type[nn.Module]] = {"BFCNN": BFCNN, "UNet": UNet, "ResUNet": ResUNet}


def _padded(y: Tensor, stride: int) -> Tensor:
    height, width = y.shape[-2:]
    return F.pad(y, (0, -width % stride, 0, -height % stride), mode="replicate")


def _network_input(y: Tensor, in_channels: int) -> Tensor:
    if not isinstance(y, torch.Tensor):
        raise TypeError(f"y must be a torch.Tensor of shape (B, {in_channels}, H, W), got {type(y).__name__}")
    if y.ndim != 4 or y.shape[1] != in_channels or y.numel() == 0:
        raise ValueError(f"y must have shape (B, {in_channels}, H, W), got {tuple(y.shape)}")
    if not y.is_floating_point():
        raise TypeError(f"y must hold floating-point intensities in [0, 1], got {y.dtype}")
    return y


@contextmanager
def evaluating(denoiser: Denoiser, dtype: torch.dtype | None = None) -> Iterator[Denoiser]:
    """Yield ``denoiser`` ready for analysis; leave it and torch's settings as they were.

    A network is put in evaluation mode with frozen parameters; a network whose floating type is
    not ``dtype`` is copied to it first. TF32 is off inside, because its rounding changes
    Jacobians. Any other function raises if its output is not a batch of the shape of its input.

    Parameters
    ----------
    denoiser : Denoiser
        A network, or any function of noisy images (B, C, H, W).
    dtype : torch.dtype, optional
        Floating type to which a network is copied; its own if left out.

    Yields
    ------
    Denoiser
        (B, C, H, W) -> (B, C, H, W).
    """
    if not callable(denoiser):
        raise TypeError(f"denoiser must be a function of y, got {type(denoiser).__name__}")
    with exact_arithmetic():
        if not isinstance(denoiser, nn.Module):
            yield _returning_images(denoiser)
            return
        parameters = list(denoiser.parameters())
        if dtype is not None and any(p.dtype != dtype for p in parameters):
            denoiser = copy.deepcopy(denoiser).to(dtype)
            parameters = list(denoiser.parameters())
        modes = [(module, module.training) for module in denoiser.modules()]
        trainable = [p.requires_grad for p in parameters]
        try:
            denoiser.eval().requires_grad_(False)
            yield denoiser if type(denoiser) in NETWORKS.values() else _returning_images(denoiser)
        finally:
            for module, training in modes:
                module.training = training
            for parameter, flag in zip(parameters, trainable, strict=True):
                parameter.requires_grad_(flag)


def _returning_images(denoiser: Denoiser) -> Denoiser:
    """The same function, which raises if its output has another shape: torch would broadcast it against images."""

    def f(y: Tensor) -> Tensor:
        output = denoiser(y)
        if not isinstance(output, Tensor):
            raise TypeError(f"denoiser must return a torch.Tensor, got {type(output).__name__}")
        if output.shape != y.shape:
            raise ValueError(
                f"denoiser must return images of the shape of its input, {tuple(y.shape)}, got {tuple(output.shape)}"
            )
        return output

    return f
