"""Optimizers of a training: Adam, as in the authors' code, or Muon for the weights of the hidden layers."""

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # K. Jordan's quintic: steep at 0, so that five steps suffice
RMS = 0.2  # of an update with learning rate 1, about Adam's, so that both take the same learning rate


class Muon(torch.optim.Optimizer):
    """Orthogonalized momentum: each weight moves equally far along all its singular vectors.

    K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), with the step size of Liu et
    al., "Muon is scalable for LLM training" (2025). A convolution (out, in, h, w) is the matrix (out, in h w).
    ``torch.optim.Muon`` takes only matrices and computes in bfloat16, which many CPUs emulate; this one computes in
    float32. ``lr`` is on Adam's scale, ``momentum`` is Nesterov's.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float | Tensor = 1e-3, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move each parameter that has a gradient; those of one shape together, in a few large products."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            for shape in dict.fromkeys(weight.shape for weight in weights):
                self._step([weight for weight in weights if weight.shape == shape], **group)

    def _step(self, weights: list[Tensor], lr: float | Tensor, momentum: float, **group: Any) -> None:
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        means = [self.state[weight]["momentum"] for weight in weights]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        torch._foreach_lerp_(means, gradients, 1 - momentum)
        steps = torch._foreach_lerp(gradients, means, momentum)
        steps = orthogonalized(torch.stack([step.flatten(1) for step in steps]))
        size = lr * RMS * max(steps.shape[1:]) ** 0.5
        steps = [step.view_as(weight) for step, weight in zip(steps, weights, strict=True)]
        if isinstance(size, Tensor):
            torch._foreach_sub_(weights, torch._foreach_mul(steps, size))
        else:
            torch._foreach_add_(weights, steps, alpha=-size)


def orthogonalized(matrix: Tensor, iterations: int = 5) -> Tensor:
    """U V^T of a matrix U S V^T (..., m, n), approximately, by Newton-Schulz iteration.

    The iteration is computed on the small Gram matrix X X^T, so that only the first and the last product are with X.
    The singular values of the result are between 0.68 and 1.21, except those below 2e-3 of the matrix's norm.
    """
    wide = matrix if matrix.shape[-2] <= matrix.shape[-1] else matrix.mT
    wide = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-20)
    a, b, c = NEWTON_SCHULZ
    gram = wide @ wide.mT
    whole = identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    for _ in range(iterations):
        polynomial = a * identity + b * gram + c * (gram @ gram)
        whole = polynomial @ whole
        gram = polynomial @ gram @ polynomial
    wide = whole @ wide
    return wide if matrix.shape[-2] <= matrix.shape[-1] else wide.mT


def optimizers(network: nn.Module, name: str, learning_rate: float) -> list[torch.optim.Optimizer]:
    """The optimizers of a network's parameters.

    ``"adam"``: one for all. ``"muon"``: Muon for the weights between hidden channels, Adam for the others (the first
    and last convolution, and gains). On a GPU the learning rate and the number of steps are tensors, for CUDA graphs.
    """
    parameters, image_channels = list(network.parameters()), cast(int, network.in_channels)
    on_gpu = parameters[0].device.type == "cuda"
    rate = torch.tensor(learning_rate, device=parameters[0].device) if on_gpu else learning_rate
    hidden = [p for p in parameters if p.ndim == 4 and min(p.shape[:2]) > image_channels]
    if name == "adam" or not hidden:
        return [torch.optim.Adam(parameters, lr=rate, capturable=on_gpu)]
    others = [p for p in parameters if all(p is not h for h in hidden)]
    return [Muon(hidden, lr=rate), torch.optim.Adam(others, lr=rate, capturable=on_gpu)]


def set_learning_rate(optimizers: list[torch.optim.Optimizer], learning_rate: float) -> None:
    """Set the learning rate of the next step."""
    for optimizer in optimizers:
        group = optimizer.param_groups[0]
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(learning_rate)
        else:
            group["lr"] = learning_rate
