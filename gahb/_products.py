"""Products with the Jacobian of a denoiser at one image, and the whole matrix from them.

A network of gahb is linear once its ReLU gates are frozen: v -> J v is a forward pass, u -> J^T u a backward pass.
Of other denoisers only the backward pass is known, and v -> J v is its transpose.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from gahb.denoisers import NETWORKS, BiasFreeBatchNorm, Denoiser, evaluating

CHUNK_PIXELS = 32 * 40 * 40  # images that go through a network at once, in pixels
BLOCK = 4  # side of the blocks of pixels whose unit vectors share a window
Map = Callable[[Tensor], Tensor]  # linear, on batches (B, C, H, W)


def columns(product: Map, y: Tensor) -> Tensor:
    """Apply a linear map to every unit vector of the space of ``y``; row i is the image of vector i."""
    d = y.numel()
    chunk = max(1, CHUNK_PIXELS // d)
    rows = torch.empty(d, d, dtype=y.dtype, device=y.device)
    units = torch.zeros(min(chunk, d), d, dtype=y.dtype, device=y.device)
    for start in range(0, d, chunk):
        stop = min(start + chunk, d)
        units.zero_()[torch.arange(stop - start), torch.arange(start, stop)] = 1
        rows[start:stop] = product(units[: stop - start].view(-1, *y.shape[1:])).flatten(1)
    return rows


def by_windows(net: Denoiser, y: Tensor) -> Tensor:
    """The Jacobian of a BFCNN, block by block of pixels.

    A 3x3 convolution carries the unit vectors of a block one pixel farther, so that each layer is
    needed only in a window that grows by a pixel on each side; a 1x1 convolution leaves it as it is.
    """
    layers, (channels, height, width) = _frozen_layers(net, y), y.shape[1:]
    matrix = y.new_zeros(channels, height, width, channels, height, width)
    for top in range(0, height, BLOCK):
        for left in range(0, width, BLOCK):
            block = slice(top, min(top + BLOCK, height)), slice(left, min(left + BLOCK, width))
            shape = channels, block[0].stop - top, block[1].stop - left
            v, window = torch.eye(math.prod(shape)).to(y).view(-1, *shape), list(block)
            for weight, gate in layers:
                v, window = _through(v, window, weight, gate, height, width)
            matrix[:, window[0], window[1], :, block[0], block[1]] = v.view(*shape, *v.shape[1:]).permute(
                3, 4, 5, 0, 1, 2
            )
    matrix = matrix.view(y.numel(), -1).neg_()
    matrix.diagonal().add_(1)  # the denoised image is y minus the network's output
    return matrix


def _frozen_layers(net: Denoiser, y: Tensor) -> list[tuple[Tensor, Tensor | None]]:
    """Weight and 0/1 gate (or None) of each convolution of a BFCNN at ``y``, normalization in the weight."""
    layers: list[tuple[Tensor, Tensor | None]] = []
    for layer in _linear(net, y).noise:
        if isinstance(layer, nn.Conv2d):
            layers.append((layer.weight, None))
        elif isinstance(layer, _Gate):
            layers[-1] = layers[-1][0], layer.gate
    return layers


def _through(
    v: Tensor, window: list[slice], weight: Tensor, gate: Tensor | None, height: int, width: int
) -> tuple[Tensor, list[slice]]:
    """A convolution and its gate, from images that are zero outside a window to a window wider by its reach."""
    r, sides = weight.shape[-1] // 2, (height, width)
    wider = [slice(max(w.start - r, 0), min(w.stop + r, n)) for w, n in zip(window, sides, strict=True)]
    padding = [r if new == old else 2 * r for new, old in zip(wider, window, strict=True)]
    v = F.conv2d(v, weight, padding=padding)
    starts = [new.start - old.start + p - r for new, old, p in zip(wider, window, padding, strict=True)]
    rows, columns = (slice(a, a + new.stop - new.start) for a, new in zip(starts, wider, strict=True))
    v = v[:, :, rows, columns]
    return v if gate is None else v * gate[:, :, wider[0], wider[1]], wider


@contextmanager
def products(denoiser: Denoiser, y: Tensor) -> Iterator[tuple[Map | None, Map]]:
    """Yield v -> J v and u -> J^T u, with J the Jacobian at ``y``; no v -> J v for a denoiser that is not of gahb."""
    with evaluating(denoiser, y.dtype) as f, plain_attention():
        if type(f) in NETWORKS.values():
            linear = _linear(f, y)
            yield linear, _transpose_product(linear, y)
        else:
            yield None, _transpose_product(f, y)


def plain_attention() -> AbstractContextManager[None]:
    """Attention by plain products inside: torch's fused kernels have no second derivative, which v -> J v needs."""
    return sdpa_kernel(SDPBackend.MATH)


class _Gate(nn.Module):
    """A ReLU that is frozen at its first input: a 0/1 gate."""

    gate: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is None:
            self.gate = (x > 0).to(x.dtype)
        return x * self.gate


def _linear(net: Denoiser, y: Tensor) -> Any:
    """Return v -> J v: a copy of a network with its ReLUs frozen at ``y`` and its normalizations in the weights."""
    linear: Any = copy.deepcopy(net)
    for parent in list(linear.modules()):
        before: Any = None
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU):
                setattr(parent, name, _Gate())
            elif isinstance(child, BiasFreeBatchNorm):  # it follows an nn.Conv2d
                before.weight *= (child.gain / child.running_sd)[:, None, None, None]
                setattr(parent, name, nn.Identity())
            before = child
    with torch.no_grad():
        linear(y)  # sets the gates; raises if y has another number of channels
    return linear


def _transpose_product(f: Denoiser, y: Tensor) -> Map:
    """Return u -> J^T u, in reverse mode, through one graph that serves all batches of one size."""
    graph: dict[int, tuple[Tensor, Tensor]] = {}

    def backward(u: Tensor) -> Tensor:
        if len(u) not in graph:
            graph.clear()
            with torch.enable_grad():
                x = y.expand(len(u), *y.shape[1:]).clone().requires_grad_()
                graph[len(u)] = x, differentiable(f(x))
        x, output = graph[len(u)]
        return torch.autograd.grad(output, x, u, retain_graph=True, create_graph=u.requires_grad)[0]

    return backward


def forward_product(backward: Map) -> Map:
    """Return v -> J v for denoisers whose gates cannot be frozen: u -> J^T u is linear, and its transpose is J."""

    def forward(v: Tensor) -> Tensor:
        u = torch.zeros_like(v, requires_grad=True)
        return torch.autograd.grad(backward(u), u, v)[0]

    return forward


def differentiable(output: Tensor) -> Tensor:
    """Return ``output`` if autograd can differentiate it by ``y``."""
    if not output.requires_grad:
        raise ValueError(
            "denoiser must be differentiable, but autograd sees no dependence of its output on y: "
            "compute it from y by operations of torch, without torch.no_grad and detach"
        )
    return output
