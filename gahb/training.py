"""How one denoiser is trained (Appendix A).

Minimize E norm(x - f(y))^2 over y = x + sigma z with sigma drawn at random (Eq. 4). All random
numbers come from one generator whose state is in the checkpoint, and a checkpoint is only ever
written between two steps, so that an interrupted training ends with the same weights as an
undisturbed one.
"""

import csv
import hashlib
import inspect
import math
import time
import warnings
from contextlib import contextmanager, nullcontext, suppress

import torch
from torch.nn import functional as F

from gahb import _checks, _compile
from gahb._files import read_tensors, set_aside, writable_file, write_atomically, write_tensors
from gahb._machine import HeldSignals, has_bfloat16_units, keeping_memory, pick_device, progress_bar
from gahb.denoisers import NETWORKS
from gahb.optimizers import optimizers
from gahb.recipe import Recipe

CHECKPOINT_SECONDS = 60.0
LOG_RANGE = 200  # largest over smallest noise level of the log-uniform law: 46 dB
LEVELS, LEVEL_DB = 12, 4  # over which the errors of a balanced loss are averaged, from sigma_max down
ARITHMETIC = 3  # raised with each change of the bits of a step: a checkpoint from before it is not gone on from
RUNNING = 0.03  # what an image counts in the running mean of its level


class TrainingStopped(RuntimeError):
    """A training reached its time limit; its checkpoint is kept, and the same call goes on from it."""


class TrainingFailed(RuntimeError):
    """A training became NaN or infinite; the last good checkpoint is kept."""


def train(images, recipe=None, device="cpu", checkpoint=None, time_limit=None, progress=True, **settings):
    """Train one denoiser.

    Parameters
    ----------
    images : Tensor (N, C, H, W)
        Training images, float32 in [0, 1] or uint8; kept on the device, batches are drawn there.
    recipe : Recipe, optional
        How. Left out: the paper's recipe with ``settings`` replacing its fields, for example
        ``train(images, images_seen=100_000, size={"depth": 7, "channels": 32})``.
    device : str or torch.device
        ``"auto"``, ``"cuda"``, ``"mps"`` or ``"cpu"``.
    checkpoint : str or Path, optional
        File that is written every minute and when the training is interrupted, and from which
        the same call on the same images goes on. One of another recipe, other images or other
        arithmetic (device, precision) is renamed to ``*.other``.
    time_limit : float, optional
        Seconds after which it stops with a checkpoint, which must be given then.
    progress : bool
        Show a bar with loss, images/s and time left.
    **settings
        Fields of :class:`gahb.Recipe` but ``name`` and ``data``, if no recipe is given.

    Returns
    -------
    nn.Module
        The denoiser, in evaluation mode; ``net.history`` is the list of rows
        ``{"images", "loss", "learning_rate", "seconds"}``, the loss being the mean per pixel of
        the steps since the row before.

    Raises
    ------
    TrainingStopped
        At the time limit.
    TrainingFailed
        If the loss, a weight or a statistic is not finite.
    KeyboardInterrupt
        As ever; the checkpoint is written before it goes on.
    ValueError, TypeError
        If the images, the device or a setting are not as described.
    OSError
        If the checkpoint cannot be written.
    """
    if recipe is None:
        if named := settings.keys() & {"name", "data"}:
            raise TypeError(f"{' and '.join(sorted(named))}: give a whole recipe, gahb.Recipe(name, data, ...)")
        recipe = Recipe(name="denoiser", data={"class": "given"}, **settings)
    elif settings:
        raise TypeError(f"give a recipe or its fields, not both: got a recipe and {', '.join(settings)}")
    if time_limit is not None and checkpoint is None:
        raise ValueError("time_limit needs a checkpoint to go on from: give checkpoint=, the path of a file")
    device, images = pick_device(device), _training_images(images)
    if checkpoint is not None:  # told now, and not when there is work to lose
        checkpoint = writable_file(checkpoint, "checkpoint")
    begun = time.monotonic()
    with _own_settings(), keeping_memory(), HeldSignals() as signals:
        run = _Run(recipe, images, device, checkpoint)
        run.resume()
        try:
            with progress_bar(run.total, run.seen, recipe.name, progress) as bar:
                run.to_the_end(signals, bar, math.inf if time_limit is None else begun + time_limit)
        except KeyboardInterrupt:
            with suppress(TrainingFailed):  # then the last good checkpoint is there
                run.save()
            raise
    net = run.net.eval()
    net.history = run.history
    return net


def learning_rate(recipe, seen):
    """Learning rate after ``seen`` images."""
    if recipe.schedule == "halving":
        return recipe.learning_rate * 0.5 ** (seen // recipe.halving_images)
    progress, rise = seen / recipe.images_seen, 0.1
    if progress < rise:
        return recipe.learning_rate * (0.04 + 0.96 * progress / rise)
    return recipe.learning_rate * (1 + math.cos(math.pi * (progress - rise) / (1 - rise))) / 2


def draw_sigmas(recipe, uniform):
    """Noise levels from numbers uniform on [0, 1], by the recipe's law."""
    if recipe.sigma_law == "log-uniform":
        return recipe.sigma_max * LOG_RANGE**-uniform
    return recipe.sigma_max * (uniform if recipe.sigma_law == "uniform" else uniform.square())


def digest(images):
    """SHA-256 of training images; the same for 8-bit images and the float ones that equal them."""
    sha = hashlib.sha256(str(tuple(images.shape)).encode())
    for block in images.split(1024):
        sha.update(_as_float(block).float().cpu().contiguous().numpy())
    return sha.hexdigest()


class _Run:
    """One training under way: the network, its optimizer, its generator and its history."""

    def __init__(self, recipe, images, device, checkpoint):
        self.recipe, self.device, self.checkpoint = recipe, device, checkpoint
        self.net = _network(recipe, images.shape[1]).to(device, memory_format=torch.channels_last)
        self.optimizers = optimizers(self.net, recipe.optimizer, recipe.learning_rate)
        self.generator = torch.Generator(device).manual_seed(recipe.seed)
        fast = recipe.precision == "auto" and has_bfloat16_units(device)
        self.bfloat16 = recipe.precision == "bfloat16" or fast
        repays = _compile.repays(recipe, self.net, images[0, 0].numel(), device, self.bfloat16)
        self.compiled = repays and _compile.works(device)
        self.denoise = _compile.compiled(self.net, device) if self.compiled else self.net
        self.images = images.to(device).contiguous()  # one memory format, one order of the sums
        self.total = -(-recipe.images_seen // recipe.batch_size) * recipe.batch_size
        self.seen, self.seconds, self.losses, self.history = 0, 0.0, [], []
        self.means = None  # of the errors at each noise level, see running_errors
        self.identity = None
        if checkpoint is not None:
            precision = "bfloat16" if self.bfloat16 else "float32"
            arithmetic = f"{device.type} {precision}{' compiled' * self.compiled}, version {ARITHMETIC}"
            self.identity = {"recipe": recipe.settings(), "images": digest(images), "arithmetic": arithmetic}

    def to_the_end(self, signals, bar, deadline):
        recipe = self.recipe
        last = saved = time.monotonic()
        self.net.train()
        while self.seen < self.total:
            self.step(signals)
            now = time.monotonic()
            self.seconds += now - last
            last = now
            bar.update(recipe.batch_size)
            if self.seen * 100 // self.total > (self.seen - recipe.batch_size) * 100 // self.total:
                self.report(bar)
            if now - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = time.monotonic()
            if now > deadline and self.seen < self.total:
                self.save()
                raise TrainingStopped(
                    f"{recipe.name} stopped at its time limit after {self.seen:,} of {self.total:,} images; "
                    "the same command goes on from there"
                )
        with signals.let_in():
            self.require_finite()

    def step(self, signals):
        """One step. An interruption comes before it or after it: none of it is left half done."""
        before = self.generator.get_state(), self.means, [buffer.clone() for buffer in self.net.buffers()]
        for optimizer in self.optimizers:
            optimizer.param_groups[0]["lr"] = learning_rate(self.recipe, self.seen)
        try:
            with signals.let_in():
                loss = self.gradient()
        except KeyboardInterrupt:
            self.generator.set_state(before[0])
            self.means = before[1]
            for buffer, value in zip(self.net.buffers(), before[2], strict=True):
                buffer.copy_(value)
            raise
        for optimizer in self.optimizers:
            optimizer.step()
        self.seen += self.recipe.batch_size
        self.losses.append(loss)

    def gradient(self):
        """Draw a batch, leave the gradient of its loss in the parameters, return the loss per pixel."""
        recipe, images = self.recipe, self.images
        draw = {"generator": self.generator, "device": self.device}
        picks = torch.randint(len(images), (recipe.batch_size,), **draw)
        uniform = torch.rand(recipe.batch_size, **draw)
        x = _as_float(images[picks])
        z = torch.randn(x.shape, **draw)
        # The floor keeps 1 / sigma^p finite.
        sigma = draw_sigmas(recipe, uniform)[:, None, None, None].clamp_min(1e-3)
        y = (x + sigma * z).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else nullcontext():
            denoised = self.denoise(y)
        errors = (x - denoised.float()).square().sum((1, 2, 3))
        if recipe.weight_power == "balanced":
            weights = 1 / self.running_errors(errors.detach(), sigma.flatten())
        else:
            weights = sigma.flatten() ** -recipe.weight_power
        loss = (errors * weights).mean()
        self.net.zero_grad(set_to_none=True)
        loss.backward()
        # Balanced errors stay near 1: what tells of the training is the plain error.
        shown = errors.mean() if recipe.weight_power == "balanced" else loss
        return shown.detach() / x[0].numel()

    def running_errors(self, errors, sigma):
        """The running mean, before this batch, of the errors of each image's noise level; then count the batch in."""
        means = errors.mean().expand(LEVELS) if self.means is None else self.means
        level = (sigma / self.recipe.sigma_max).log10().mul(-20 / LEVEL_DB).long().clamp(0, LEVELS - 1)
        among = F.one_hot(level, LEVELS).to(errors)
        count, total = among.sum(0), errors @ among
        old = (1 - RUNNING) ** count
        self.means = means * old + total / count.clamp_min(1) * (1 - old)
        return means[level]

    def report(self, bar):
        loss = float(torch.stack(self.losses).mean())
        if not math.isfinite(loss):
            self.fail(f"its loss became {loss}")
        rate = self.optimizers[0].param_groups[0]["lr"]
        self.history.append({"images": self.seen, "loss": loss, "learning_rate": rate, "seconds": self.seconds})
        self.losses = []
        bar.set_postfix(loss=f"{loss:.3g}", refresh=False)

    def require_finite(self):
        """The tensors that a checkpoint holds, if all of them are finite."""
        tensors = {f"net.{key}": value for key, value in self.net.state_dict().items()}
        for index, state in self.optimizer_states():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
        tensors |= {"losses": torch.stack(self.losses)} if self.losses else {}
        tensors |= {} if self.means is None else {"means": self.means}
        for key, value in tensors.items():
            if not bool(torch.isfinite(value).all()):
                self.fail(f"{key} is not finite")
        return tensors

    def optimizer_states(self):
        """Number and state of each parameter that has one."""
        for index, parameter in enumerate(self.net.parameters()):
            for optimizer in self.optimizers:
                if parameter in optimizer.state:
                    yield index, optimizer.state[parameter]

    def fail(self, what):
        kept = self.checkpoint is not None and self.checkpoint.is_file()
        raise TrainingFailed(
            f"the training of {self.recipe.name} failed after {self.seen:,} images: {what}. "
            + ("Its last good checkpoint is kept. " if kept else "")
            + f"Lower learning_rate ({self.recipe.learning_rate:g}) or raise batch_size."
        )

    def save(self):
        """Write the checkpoint; one that is not finite never takes the place of a good one."""
        if self.checkpoint is None:
            return
        tensors = self.require_finite() | {"generator": self.generator.get_state()}
        state = {"seen": self.seen, "seconds": self.seconds, "history": self.history}
        write_tensors(self.checkpoint, tensors, self.identity | {"state": state})

    def resume(self):
        """Go on from the checkpoint, if there is a sound one of this recipe, these images and this arithmetic."""
        stored = None if self.checkpoint is None else read_tensors(self.checkpoint)
        if stored is None:
            return
        tensors, about = stored
        differs = [key for key, value in self.identity.items() if about.get(key) != value]
        if differs:
            warnings.warn(
                f"{self.checkpoint.name} is of another {' and other '.join(differs)}, and is "
                f"{set_aside(self.checkpoint, 'other')}; {self.recipe.name} starts anew",
                stacklevel=3,
            )
            return
        self.net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")})
        for index, parameter in enumerate(self.net.parameters()):
            prefix = f"optimizer.{index}."
            state = {
                key.removeprefix(prefix): value.clone() for key, value in tensors.items() if key.startswith(prefix)
            }
            for key in state.keys() - {"step"}:  # in the layout of an undisturbed run: the same arithmetic
                state[key] = torch.empty_like(parameter, requires_grad=False).copy_(state[key])
            for optimizer in self.optimizers if state else ():  # there is none before the first step
                if any(parameter is other for other in optimizer.param_groups[0]["params"]):
                    optimizer.state[parameter] = state
        self.generator.set_state(tensors["generator"])
        self.losses = list(tensors["losses"].to(self.device)) if "losses" in tensors else []
        self.means = tensors["means"].to(self.device) if "means" in tensors else None
        self.seen, self.seconds, self.history = (about["state"][key] for key in ("seen", "seconds", "history"))


def write_history(path, history):
    """Write the rows of a training's history as CSV."""

    def write(temporary):
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["images", "loss", "learning_rate", "seconds"])
            writer.writeheader()
            writer.writerows(history)

    write_atomically(path, write)


def _training_images(images):
    images = _checks.clean_images(images, "images", uint8=True)
    return images if images.dtype == torch.uint8 else images.float()


def _network(recipe, channels):
    """The untrained network of a recipe."""
    network = NETWORKS[recipe.network]
    known = inspect.signature(network).parameters.keys() - {"seed"}
    if unknown := recipe.size.keys() - known:
        raise ValueError(f"size of {recipe.network} may have {', '.join(sorted(known))}, got {', '.join(unknown)}")
    return network(**{"in_channels": channels, **recipe.size}, seed=recipe.seed)


def _as_float(images):
    return images.float() / 255 if images.dtype == torch.uint8 else images


@contextmanager
def _own_settings():
    """The settings of torch that decide the weights, whatever the caller's are; his come back on exit.

    Convolutions are deterministic; TF32 does no harm to training.
    """
    former, cudnn_there = torch.get_default_dtype(), torch.backends.cudnn.enabled
    torch.set_default_dtype(torch.float32)
    try:
        with (
            torch.backends.cudnn.flags(cudnn_there, benchmark=False, deterministic=True, allow_tf32=True),
            torch.inference_mode(False),
            torch.enable_grad(),
        ):
            yield
    finally:
        torch.set_default_dtype(former)
