"""The training loop: steps, a history, and checkpoints.

All random numbers come from one generator whose state is in the checkpoint. Signals are handled and checkpoints
written between steps, so that an interrupted training ends with the same weights as an undisturbed one.
"""

import inspect
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from gahb._util import checks
from gahb._util.devices import exact_arithmetic, has_bfloat16_units, pick_device
from gahb._util.files import writable_file
from gahb._util.progress import progress_bar
from gahb._util.signals import HeldSignals
from gahb.denoisers import NETWORKS
from gahb.training import checkpoint as checkpoints
from gahb.training.checkpoint import State
from gahb.training.compile import compiled, is_compiled
from gahb.training.graph import captured
from gahb.training.optimizers import optimizers, set_learning_rate
from gahb.training.recipe import Recipe
from gahb.training.step import learning_rate, step, weighting_of

CHECKPOINT_SECONDS = 60.0


class TrainingStopped(RuntimeError):
    """A training reached its time limit; the same call resumes it from its checkpoint."""


class TrainingFailed(RuntimeError):
    """A training became NaN or infinite; the last good checkpoint is kept."""


def train(
    images: Tensor,
    recipe: Recipe | None = None,
    device: str | torch.device = "cpu",
    checkpoint: str | Path | None = None,
    time_limit: float | None = None,
    progress: bool = True,
    **settings: Any,
) -> nn.Module:
    """Train one network.

    Parameters
    ----------
    images : Tensor (N, C, H, W)
        Training images, float32 in [0, 1] or uint8; kept on the device, where batches are drawn.
    recipe : Recipe, optional
        How to train. If left out, the default recipe with the fields in ``settings`` replaced, for example
        ``train(images, images_seen=100_000, network_kwargs={"depth": 7, "channels": 32})``.
    device : str or torch.device
        ``"auto"``, ``"cuda"``, ``"mps"`` or ``"cpu"``.
    checkpoint : str or Path, optional
        File written every minute and when the training is interrupted; the same call on the same images resumes from
        it. A checkpoint of another recipe, other images or other arithmetic (device, precision) is renamed to
        ``*.other``.
    time_limit : float, optional
        Seconds after which training stops with a checkpoint, which is then required.
    progress : bool
        Show a bar with loss, images/s and time left.
    **settings
        Fields of :class:`gahb.Recipe` other than ``name`` and ``data``, if no recipe is given.

    Returns
    -------
    nn.Module
        The network, in evaluation mode; ``network.history`` is the list of rows ``{"images", "loss",
        "learning_rate", "seconds"}``, the loss being the mean per pixel of the steps since the row before.

    Raises
    ------
    TrainingStopped, TrainingFailed
        At the time limit; if the loss, a weight or a statistic is not finite.
    KeyboardInterrupt
        After the step under way, with a checkpoint; at once, without one, at a second signal.
    """
    recipe = _recipe(recipe, settings)
    if time_limit is not None and checkpoint is None:
        raise ValueError("time_limit needs a checkpoint to resume from: give checkpoint=, the path of a file")
    device, images = pick_device(device), checks.clean_images(images, "images", uint8=True)
    images = images if images.dtype == torch.uint8 else images.float()
    path = None if checkpoint is None else writable_file(checkpoint, "checkpoint")  # an error now, not after an hour
    deadline = math.inf if time_limit is None else time.monotonic() + time_limit
    with _own_settings(device), HeldSignals() as signals:
        state, denoiser = start(recipe, images, device, path)
        checkpoints.resume(state)
        try:
            _loop(state, denoiser, images.to(device).contiguous(), signals, deadline, progress)
        except KeyboardInterrupt:
            if not signals.forced:  # otherwise a step may be half done, and the last checkpoint is kept
                with suppress(TrainingFailed):  # which also keeps the last checkpoint
                    _save(state)
            raise
    network = state.network.eval()
    network.history = state.history  # type: ignore[assignment]
    return network


def _loop(
    state: State,
    denoiser: Callable[[Tensor], Tensor],
    images: Tensor,
    signals: HeldSignals,
    deadline: float,
    progress: bool,
) -> None:
    """Step until all images are seen; report a hundred times, save once a minute, handle signals between steps."""
    recipe, batch = state.recipe, state.recipe.batch_size
    total = math.ceil(recipe.images_seen / batch) * batch
    last = saved = time.monotonic()
    state.network.train()
    advance: Callable[[], object] = partial(take_step, state, denoiser, images)
    if images.device.type == "cuda":
        advance = captured(partial(take_step, state, denoiser, images), state)
    with progress_bar(total, state.images_seen, recipe.name, progress) as bar:
        while state.images_seen < total:
            signals.deliver()
            set_learning_rate(state.optimizers, learning_rate(recipe, state.images_seen))
            advance()
            state.images_seen += batch
            now = time.monotonic()
            state.seconds += now - last
            last = now
            bar.update(batch)
            if state.images_seen * 100 // total > (state.images_seen - batch) * 100 // total:
                _report(state)
                bar.set_postfix(loss=f"{state.history[-1]['loss']:.3g}", refresh=False)
            if now - saved > CHECKPOINT_SECONDS:
                _save(state)
                saved = time.monotonic()
            if now > deadline and state.images_seen < total:
                _save(state)
                raise TrainingStopped(
                    f"{recipe.name} stopped at its time limit after {state.images_seen:,} of {total:,} images; "
                    "the same command resumes it"
                )
    _require_finite(state)
    signals.deliver()


def take_step(state: State, denoiser: Callable[[Tensor], Tensor], images: Tensor) -> None:
    """One step at the present learning rate; its loss is added to ``state.losses``."""
    value = step(state.recipe, denoiser, images, state.optimizers, state.weighting, state.generator)
    state.losses.add_(torch.stack((value, torch.ones_like(value))))


def _report(state: State) -> None:
    """Add a row to the history."""
    total, count = state.losses.tolist()
    loss = total / count
    if not math.isfinite(loss):
        _fail(state, f"its loss became {loss}")
    rate = float(state.optimizers[0].param_groups[0]["lr"])
    state.history.append({"images": state.images_seen, "loss": loss, "learning_rate": rate, "seconds": state.seconds})
    state.losses.zero_()


def _save(state: State) -> None:
    """Write the checkpoint, unless a value is not finite: a good one is never replaced by a bad one."""
    _require_finite(state)
    checkpoints.save(state)


def _require_finite(state: State) -> None:
    for key, value in checkpoints.tensors_of(state).items():
        if not bool(torch.isfinite(value).all()):
            _fail(state, f"{key} is not finite")


def _fail(state: State, reason: str) -> NoReturn:
    kept = state.checkpoint is not None and state.checkpoint.is_file()
    raise TrainingFailed(
        f"the training of {state.recipe.name} failed after {state.images_seen:,} images: {reason}. "
        + ("Its last good checkpoint is kept. " if kept else "")
        + f"Lower learning_rate ({state.recipe.learning_rate:g}) or raise batch_size."
    )


def _recipe(recipe: Recipe | None, settings: dict[str, Any]) -> Recipe:
    if recipe is not None:
        if settings:
            raise TypeError(f"give a recipe or its fields, not both: got a recipe and {', '.join(settings)}")
        return recipe
    if named := settings.keys() & {"name", "data"}:
        raise TypeError(f"{' and '.join(sorted(named))}: give a whole recipe, gahb.Recipe(name, data, ...)")
    return Recipe(name="network", data={"class": "given"}, **settings)


def start(
    recipe: Recipe, images: Tensor, device: torch.device, path: Path | None = None
) -> tuple[State, Callable[[Tensor], Tensor]]:
    """A training before its first step, and the denoiser of its steps: the network, perhaps compiled or in bfloat16."""
    kind = NETWORKS[recipe.network]
    known = inspect.signature(kind).parameters.keys() - {"seed"}
    if unknown := recipe.network_kwargs.keys() - known:
        raise ValueError(
            f"network_kwargs of {recipe.network} may have {', '.join(sorted(known))}, got {', '.join(sorted(unknown))}"
        )
    network: Any = kind(**{"in_channels": images.shape[1], **recipe.network_kwargs}, seed=recipe.seed)
    network = network.to(device, memory_format=torch.channels_last)
    bfloat16 = recipe.precision == "bfloat16" or (recipe.precision == "auto" and has_bfloat16_units(device))
    fused = is_compiled(recipe, device)
    state = State(
        recipe,
        network,
        optimizers(network, recipe.optimizer, recipe.learning_rate),
        weighting_of(recipe, device),
        torch.Generator(device).manual_seed(recipe.seed),
        path,
        checkpoints.identity(recipe, images, device, bfloat16, fused) if path else {},
        losses=torch.zeros(2, device=device),
    )
    function = compiled(network) if fused else network

    def denoiser(y: Tensor) -> Tensor:
        # Without the cache: inside another autocast it would keep the weights of the first step.
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16, cache_enabled=False):
            return function(y)

    return state, denoiser


@contextmanager
def _own_settings(device: torch.device) -> Iterator[None]:
    """Torch settings that decide the weights; the caller's settings are restored on exit."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with (
            exact_arithmetic(convolutions="tf32"),
            torch.autocast(device.type, enabled=False),
            torch.inference_mode(False),
            torch.enable_grad(),
        ):
            yield
    finally:
        torch.set_default_dtype(dtype)
