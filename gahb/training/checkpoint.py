"""Checkpoints of a training: what they hold, and whether one belongs to this training."""

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gahb._util.files import read_tensors, set_aside, write_tensors
from gahb.training.recipe import Recipe
from gahb.training.step import BalancedWeighting, Weighting, as_float

ARITHMETIC = 4  # raised whenever the bits of a step or the layout change: older checkpoints are not resumed


@dataclass
class State:
    """A training under way: what a checkpoint holds, the path of its file, and the training it belongs to."""

    recipe: Recipe
    network: nn.Module
    optimizers: list[torch.optim.Optimizer]
    weighting: Weighting
    generator: torch.Generator
    checkpoint: Path | None
    identity: dict[str, Any]
    images_seen: int = 0
    seconds: float = 0.0
    losses: Tensor = field(default_factory=lambda: torch.zeros(2))  # sum and number since the last row of the history
    history: list[dict[str, float]] = field(default_factory=list)


def identity(recipe: Recipe, images: Tensor, device: torch.device, bfloat16: bool, fused: bool) -> dict[str, Any]:
    """What must be equal in a training and a checkpoint that it resumes."""
    precision = "bfloat16" if bfloat16 else "float32"
    arithmetic = f"{device.type} {precision}{' compiled' * fused}, version {ARITHMETIC}"
    return {"recipe": recipe.settings(), "images": digest(images), "arithmetic": arithmetic}


def digest(images: Tensor) -> str:
    """SHA-256 of training images; the same for 8-bit images and the float images that equal them."""
    sha = hashlib.sha256(str(tuple(images.shape)).encode())
    for block in images.split(1024):
        sha.update(as_float(block).float().cpu().contiguous().numpy().data)
    return sha.hexdigest()


def sketch(images: Tensor) -> list[float]:
    """Sixteen random projections of a whole set of images: sets that nearly equal have nearly equal sketches.

    With X the set as (N, d), these are ``a^T X b / sqrt(N d)`` for random signs a and b. The mean square of the
    difference of two sketches estimates that of the images (Johnson & Lindenstrauss, 1984).
    """
    flat = torch.cat([as_float(block).float().cpu().flatten(1) for block in images.split(1024)])
    rng = np.random.RandomState(0)  # whose stream never changes (NEP 19)
    a, b = (torch.from_numpy(2.0 * rng.randint(0, 2, (n, 16)) - 1).float() for n in flat.shape)
    return [round(value, 4) for value in ((flat @ b) * a).sum(0).div(flat.numel() ** 0.5).tolist()]


def tensors_of(state: State) -> dict[str, Tensor]:
    """The floating-point tensors of a training by name."""
    tensors = {f"net.{key}": value for key, value in state.network.state_dict().items()}
    for index, moments in _optimizer_states(state):
        tensors |= {f"optimizer.{index}.{key}": value for key, value in moments.items()}
    tensors["losses"] = state.losses
    if isinstance(state.weighting, BalancedWeighting):
        tensors["means"] = state.weighting.means
    return tensors


def save(state: State) -> None:
    """Write the checkpoint, if there is a path for one, whole or not at all."""
    if state.checkpoint is not None:
        tensors = tensors_of(state) | {"generator": state.generator.get_state()}
        progress = {"images_seen": state.images_seen, "seconds": state.seconds, "history": state.history}
        write_tensors(state.checkpoint, tensors, state.identity | {"state": progress})


def resume(state: State) -> None:
    """Load the checkpoint into ``state``, if there is an intact one with this identity."""
    path = state.checkpoint
    stored = None if path is None else read_tensors(path)
    if path is None or stored is None:
        return
    tensors, about = stored
    differs = [key for key, value in state.identity.items() if about.get(key) != value]
    if differs:
        warnings.warn(
            f"{path.name} has another {' and other '.join(differs)}, and is {set_aside(path, 'other')}; "
            f"{state.recipe.name} starts again",
            stacklevel=3,
        )
        return
    state.network.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")})
    _load_optimizers(state, tensors)
    state.generator.set_state(tensors["generator"])
    state.losses.copy_(tensors["losses"])
    if isinstance(state.weighting, BalancedWeighting):
        state.weighting.means.copy_(tensors["means"])
    for key, value in about["state"].items():
        setattr(state, key, value)


def _optimizer_states(state: State) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Number and moments of each parameter that has been updated."""
    for index, parameter in enumerate(state.network.parameters()):
        for optimizer in state.optimizers:
            if parameter in optimizer.state:
                yield index, optimizer.state[parameter]


def _load_optimizers(state: State, tensors: dict[str, Tensor]) -> None:
    for index, parameter in enumerate(state.network.parameters()):
        prefix = f"optimizer.{index}."
        moments = {key.removeprefix(prefix): value.clone() for key, value in tensors.items() if key.startswith(prefix)}
        for key in moments.keys() - {"step"}:  # in the memory layout of an undisturbed training, so that bits repeat
            moments[key] = torch.empty_like(parameter, requires_grad=False).copy_(moments[key])
        for optimizer in state.optimizers if moments else ():  # there are none before the first step
            group = optimizer.param_groups[0]
            if any(parameter is other for other in group["params"]):
                if group.get("capturable"):
                    moments["step"] = moments["step"].to(parameter.device)
                optimizer.state[parameter] = moments
