"""How one denoiser is trained (Appendix A).

Minimize E norm(x - f(y))^2 over y = x + sigma z with sigma drawn at random (Eq. 4). All random
numbers come from one generator whose state is in the checkpoint, so that an interrupted training
ends with the same weights as an undisturbed one.
"""

import csv
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm.auto import tqdm

from gahb import _checks
from gahb._files import read_tensors, write_atomically, write_tensors
from gahb.denoisers import NETWORKS

CHECKPOINT_SECONDS = 60.0
SIGMA_LAWS = ("uniform", "sqrt-uniform")
SCHEDULES = ("halving", "one-cycle")
PRECISIONS = ("float32", "bfloat16", "auto")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights of a denoiser. The defaults are the paper's.

    Attributes
    ----------
    name : str
        What it is, for people: ``faces-S1-N100``.
    data : dict
        What it is trained on: ``{"class": "c_alpha", "n": ..., "size": ..., "alpha": ..., "seed": ...}``
        for a generator of :mod:`gahb.datasets`, or the part, number and checksum of photographs.
    images : Tensor, optional
        The training images themselves, (N, C, H, W), uint8 or float32 in [0, 1]; needed for
        photographs only, and no part of the identity, which is in ``data``.
    network : str
        ``"BFCNN"`` or ``"UNet"``.
    size : dict
        Arguments of the network, such as ``{"depth": 20, "channels": 64}``.
    sigma_max : float
        Largest noise level in training, intensities.
    sigma_law : str
        ``"uniform"``: sigma uniform on [0, sigma_max], the paper's text. ``"sqrt-uniform"``: its
        square root is uniform, the authors' code; more small noise.
    weight_power : float
        p of the loss norm(x - f(y))^2 / sigma^p; the paper's is 0. The best denoiser of each
        noise level does not depend on it.
    batch_size, images_seen : int
        Images a step, and in the whole training.
    learning_rate : float
        Of Adam; the peak rate of ``"one-cycle"``.
    schedule : str
        ``"halving"``: halved after each ``halving_images`` (the authors' 100 epochs of 10^6
        images). ``"one-cycle"``: a linear rise over the first tenth, then a cosine fall to 0.
    halving_images : int
    precision : str
        ``"float32"``; ``"bfloat16"`` for the products of the forward and backward pass, with
        weights, optimizer and statistics in float32; ``"auto"``: bfloat16 where the device has
        units for it.
    seed : int
        Of the initial weights, the batches and the noise.
    """

    name: str
    data: dict
    images: torch.Tensor | None = field(default=None, repr=False, compare=False)
    network: str = "BFCNN"
    size: dict = field(default_factory=lambda: {"depth": 20, "channels": 64})
    sigma_max: float = 1.0
    sigma_law: str = "uniform"
    weight_power: float = 0.0
    batch_size: int = 512
    images_seen: int = 10_000_000
    learning_rate: float = 1e-3
    schedule: str = "halving"
    halving_images: int = 100_000_000
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self):
        _checks.choice(self.network, "network", tuple(NETWORKS))
        _checks.choice(self.sigma_law, "sigma_law", SIGMA_LAWS)
        _checks.choice(self.schedule, "schedule", SCHEDULES)
        _checks.choice(self.precision, "precision", PRECISIONS)
        for name in ("batch_size", "images_seen", "halving_images"):
            _checks.count(getattr(self, name), name)
        for name in ("sigma_max", "learning_rate"):
            _checks.positive(getattr(self, name), name)

    def settings(self):
        """All fields but the images, as a dict that JSON can hold."""
        fields = {key: value for key, value in self.__dict__.items() if key != "images"}
        return {key: dict(value) if isinstance(value, dict) else value for key, value in fields.items()}


class TrainingStopped(RuntimeError):
    """A training reached its time limit; its checkpoint is kept, and the same call goes on from it."""


class TrainingFailed(RuntimeError):
    """The loss of a training became NaN or infinite; the last good checkpoint is kept."""


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
    checkpoint : str or Path, optional
        File that is written every minute and when the training is interrupted, and from which
        the same call goes on.
    time_limit : float, optional
        Seconds after which it stops with a checkpoint.
    progress : bool
        Show a bar with loss, images/s and time left.

    Returns
    -------
    nn.Module
        The denoiser, in evaluation mode; ``net.history`` is the list of rows
        ``{"images", "loss", "learning_rate", "seconds"}``.

    Raises
    ------
    TrainingStopped
        At the time limit.
    TrainingFailed
        If the loss is not finite.
    ValueError, TypeError
        If the images or a setting are not as described.
    """
    recipe = recipe or Recipe(name="denoiser", data={"class": "given"}, **settings)
    images = _training_images(images).to(device)
    run = _Run(recipe, images, torch.device(device), time_limit, Path(checkpoint) if checkpoint else None)
    run.resume()
    label = f"{recipe.name}"
    bar = tqdm(
        total=recipe.images_seen, initial=run.seen, desc=label, unit="img", unit_scale=True,
        disable=not progress, mininterval=0.5, leave=False,
    )  # fmt: skip
    try:
        with bar, _training_flags():
            run.loop(bar)
    except KeyboardInterrupt:
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
    return recipe.sigma_max * (uniform if recipe.sigma_law == "uniform" else uniform.square())


def has_bfloat16_units(device):
    """Whether bfloat16 products are faster than float32 ones on a device."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


@dataclass
class _Run:
    """One training under way: the network, its optimizer, its generator and its history."""

    recipe: Recipe
    images: torch.Tensor
    device: torch.device
    time_limit: float | None
    checkpoint: Path | None
    seen: int = 0
    seconds: float = 0.0
    history: list = field(default_factory=list)

    def __post_init__(self):
        recipe = self.recipe
        size = {"in_channels": self.images.shape[1], **recipe.size}
        self.net = NETWORKS[recipe.network](**size, seed=recipe.seed).to(self.device)
        self.net.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=recipe.learning_rate)
        self.generator = torch.Generator(self.device).manual_seed(recipe.seed)
        fast = recipe.precision == "auto" and has_bfloat16_units(self.device)
        self.bfloat16 = recipe.precision == "bfloat16" or fast

    def loop(self, bar):
        recipe = self.recipe
        started = saved = time.monotonic()
        before, losses = self.seconds, []
        report_every = max(1, recipe.images_seen // 100)
        self.net.train()
        while self.seen < recipe.images_seen:
            losses.append(self.step())
            now = time.monotonic()
            self.seconds = before + now - started
            bar.update(recipe.batch_size)
            if self.seen // report_every > (self.seen - recipe.batch_size) // report_every:
                self.report(losses, bar)
                losses.clear()
            if now - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = time.monotonic()
            if self.time_limit is not None and now - started > self.time_limit and self.seen < recipe.images_seen:
                self.save()
                raise TrainingStopped(
                    f"{recipe.name} stopped at its time limit after {self.seen:,} of {recipe.images_seen:,} images; "
                    "the same command goes on from there"
                )

    def step(self):
        recipe, images, generator = self.recipe, self.images, self.generator
        picks = torch.randint(len(images), (recipe.batch_size,), generator=generator, device=self.device)
        uniform = torch.rand(recipe.batch_size, generator=generator, device=self.device)
        x = images[picks]
        x = x.float() / 255 if x.dtype == torch.uint8 else x
        z = torch.randn(x.shape, generator=generator, device=self.device)
        sigma = draw_sigmas(recipe, uniform)[:, None, None, None].clamp_min(1e-3)
        y = (x + sigma * z).contiguous(memory_format=torch.channels_last)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, self.seen)
        autocast = torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else nullcontext()
        with autocast:
            denoised = self.net(y)
        errors = (x - denoised.float()).square().sum((1, 2, 3))
        loss = (errors * sigma.flatten() ** -recipe.weight_power).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.seen += recipe.batch_size
        return loss.detach() / x[0].numel()

    def report(self, losses, bar):
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise TrainingFailed(
                f"the loss of {self.recipe.name} became {loss} after {self.seen:,} images; its last good checkpoint "
                f"is kept. Lower learning_rate ({self.recipe.learning_rate}) or raise batch_size."
            )
        rate = learning_rate(self.recipe, self.seen)
        self.history.append({"images": self.seen, "loss": loss, "learning_rate": rate, "seconds": self.seconds})
        bar.set_postfix(loss=f"{loss:.3g}", refresh=False)

    def save(self):
        """Write the checkpoint, unless a weight is not finite."""
        if self.checkpoint is None or not all(bool(torch.isfinite(p).all()) for p in self.net.parameters()):
            return
        tensors = {f"net.{key}": value for key, value in self.net.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
        tensors["generator"] = self.generator.get_state()
        state = {"seen": self.seen, "seconds": self.seconds, "history": self.history}
        write_tensors(self.checkpoint, tensors, {"recipe": self.recipe.settings(), "state": state})

    def resume(self):
        """Go on from the checkpoint, if there is a sound one of this recipe."""
        if self.checkpoint is None:
            return
        stored = read_tensors(self.checkpoint)
        if stored is None or stored[1]["recipe"] != self.recipe.settings():
            return
        tensors, about = stored
        self.net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")})
        states = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".", 2)
                states.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": states, "param_groups": groups})
        self.generator.set_state(tensors["generator"])
        self.seen, self.seconds = about["state"]["seen"], about["state"]["seconds"]
        self.history = about["state"]["history"]


def write_history(path, history):
    """Write the rows of a training's history as CSV."""

    def write(temporary):
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["images", "loss", "learning_rate", "seconds"])
            writer.writeheader()
            writer.writerows(history)

    write_atomically(path, write)


def _training_images(images):
    if isinstance(images, torch.Tensor) and images.dtype == torch.uint8:
        if images.ndim != 4 or images.numel() == 0:
            raise ValueError(f"images must be a non-empty tensor (N, C, H, W), got {tuple(images.shape)}")
        return images
    return _checks.images(images, "images").float()


def _training_flags():
    """Deterministic convolutions; TF32 does no harm to training."""
    return torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=True
    )
