"""Other people's denoisers: f(y) of intensities in [0, 1] from networks that work on another range or scale of y.

Most diffusion models must be told the noise level. Here such a model is a :class:`NoiseConditional`:
``denoiser(sigma)`` is f(y) at one noise level, for :func:`gahb.jacobian` and all others that take a denoiser. Functions
that have a sigma of their own take the whole: :func:`gahb.psnr_curve`, :func:`gahb.stein_risk`, :func:`gahb.analyse`,
:func:`gahb.probability_flow`.

Give a network itself, and not a function around it, wherever possible: an analysis then finds its dropout and batch
statistics, which it switches off, and its precision.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from gahb._util import checks
from gahb.denoisers import Denoiser

Network = Callable[..., Any]
Span = tuple[float, float]

PREDICTIONS = ("epsilon", "sample", "v_prediction")
OTHER_PARAMETERIZATION = (
    "gahb.adapt.from_diffusers reads variance-preserving schedulers (DDPM, DDIM, PNDM, Euler, Heun, DPM-Solver ...) of "
    f"networks that predict {', '.join(PREDICTIONS)}; wrap another model as a function net(x, sigma) that returns the "
    "clean image, and take gahb.adapt.edm(net)"
)


@dataclass(frozen=True)
class NoiseConditional:
    """A denoiser that must be told the noise level.

    Attributes
    ----------
    at : callable
        sigma -> f(y), with sigma in intensities of [0, 1]. Calling the whole does the same, and checks sigma.
    lowest, highest : float
        The noise levels for which it was made.
    """

    at: Callable[[float], Denoiser]
    lowest: float = 0.0
    highest: float = math.inf

    def __call__(self, sigma: float) -> Denoiser:
        """Return f(y) at a noise level; a ValueError outside the range."""
        if isinstance(sigma, Tensor) and sigma.ndim > 0:
            raise TypeError(
                "denoiser must be told the noise level: give denoiser(sigma), a function of images, in place of "
                "denoiser; for samples take gahb.probability_flow"
            )
        sigma = float(checks.positive(sigma, "sigma"))
        if not self.lowest * (1 - 1e-6) <= sigma <= self.highest * (1 + 1e-6):
            raise ValueError(
                f"sigma must be a noise level of the network's schedule, {self.lowest:.6g} to {self.highest:.6g}, "
                f"got {sigma:g}"
            )
        return self.at(sigma)


def at_sigma(denoiser: Denoiser | NoiseConditional, sigma: float) -> Denoiser:
    """Return f(y) at a noise level: ``denoiser`` itself if it need not be told.

    Parameters
    ----------
    denoiser : callable
        f(y), or sigma -> f(y) as a :class:`NoiseConditional`.
    sigma : float
        Noise level, intensities.

    Returns
    -------
    callable
        f(y), (B, C, H, W) -> (B, C, H, W).
    """
    return denoiser(sigma) if isinstance(denoiser, NoiseConditional) else denoiser


class _Adapted(nn.Module):
    """f(y) from ``clean(network, x)``, which denoises images x of another range.

    It is a module, so that an analysis finds the network inside: see :func:`gahb.denoisers.evaluating`.
    """

    def __init__(self, network: Network, clean: Callable[[Network, Tensor], Tensor], span: Span) -> None:
        super().__init__()
        if not callable(network):
            raise TypeError(f"network must be a function of images, got {type(network).__name__}")
        self.network, self.clean = network, clean
        self.low, self.width = span[0], span[1] - span[0]

    def forward(self, y: Tensor) -> Tensor:
        output = self.clean(self.network, self.low + self.width * checks.images(y, "y"))
        return (output - self.low) / self.width


def from_diffusers(
    network: nn.Module,
    scheduler: Any,
    span: Span = (-1.0, 1.0),
    time: str = "interpolated",
    label: int | None = None,
) -> NoiseConditional:
    """A denoiser from a model of the diffusers library and its scheduler.

    ``DDPMPipeline.from_pretrained(folder)`` has both, as ``.unet`` and ``.scheduler``. Of the scheduler only the
    betas and what the network predicts are read: any other one that has them gives the same denoiser.

    Parameters
    ----------
    network : nn.Module
        ``network(x, t)`` returns images or an object whose ``.sample`` holds them, such as a UNet2DModel.
    scheduler : object
        With ``alphas_cumprod`` and ``config.prediction_type``.
    span, time, label
        As for :func:`variance_preserving`.

    Returns
    -------
    NoiseConditional

    Raises
    ------
    ValueError
        If the scheduler has another parameterization (flow matching, EDM, score SDEs, consistency models), or the
        network is conditioned on a text or an image.
    """
    config, name = getattr(scheduler, "config", scheduler), type(scheduler).__name__
    alphas = getattr(scheduler, "alphas_cumprod", None)
    prediction = getattr(config, "prediction_type", None)
    if alphas is None:
        raise ValueError(f"{name} has no alphas_cumprod: {OTHER_PARAMETERIZATION}")
    if prediction not in PREDICTIONS:
        raise ValueError(f"{name} has prediction_type {prediction}: {OTHER_PARAMETERIZATION}")
    others = {"use_flow_sigmas": True, "timestep_type": "continuous"}
    found = [f"{key}={value!r}" for key, value in others.items() if getattr(config, key, None) == value]
    found += ["timestep_scaling, of consistency models,"] * hasattr(config, "timestep_scaling")
    if found:
        raise ValueError(f"{name} has {found[0]}: {OTHER_PARAMETERIZATION}")
    about = getattr(network, "config", None)
    if getattr(about, "cross_attention_dim", None) is not None:
        raise ValueError(
            f"{type(network).__name__} is conditioned on a text or an image: fix that condition in a function "
            "network(x, t), and take gahb.adapt.variance_preserving(network, scheduler.alphas_cumprod)"
        )
    if getattr(about, "time_embedding_type", None) == "learned" and time == "interpolated":
        raise ValueError("network has a learned embedding of whole steps: give time='nearest'")
    learned = str(getattr(config, "variance_type", "")).startswith("learned")
    return variance_preserving(network, alphas, prediction, span, time, label, learned)


def variance_preserving(
    network: Network,
    alphas_cumprod: ArrayLike | Tensor,
    prediction: str = "epsilon",
    span: Span = (-1.0, 1.0),
    time: str = "interpolated",
    label: int | None = None,
    learned_variance: bool = False,
) -> NoiseConditional:
    r"""A denoiser from a network under a variance-preserving schedule (Ho, Jain, Abbeel, 2020, "DDPM").

    The network sees x_t = sqrt(a_t) x + sqrt(1 - a_t) n at step t, with x in ``span``. A noisy image y = x + s n is
    that image divided by sqrt(a_t), if s^2 = (1 - a_t) / a_t; s is sigma in the units of ``span``. So y is multiplied
    by sqrt(a) with a = 1 / (1 + s^2), and the clean image is y - s n from a prediction of n (``"epsilon"``), the
    prediction (``"sample"``), or sqrt(a) x_t - sqrt(1 - a) v from a prediction of v = sqrt(a) n - sqrt(1 - a) x
    (``"v_prediction"``; Salimans and Ho, 2022).

    Parameters
    ----------
    network : callable
        ``network(x, t)``, t a tensor (B,) of steps from 0, returns images (B, C, H, W) or an object with ``.sample``.
    alphas_cumprod : array (T,)
        a_t of each step, falling, in [0, 1].
    prediction : str
        ``"epsilon"``, ``"sample"`` or ``"v_prediction"``.
    span : tuple of float
        Intensities of black and white in the network's own images.
    time : str
        The time of a sigma between two steps: ``"interpolated"``, linear in log sigma, floating point, or
        ``"nearest"``, the whole step whose log sigma is nearest. In both y is scaled by its own sigma.
    label : int, optional
        Class of a class-conditional network, from 0: ``network(x, t, class_labels=...)``.
    learned_variance : bool
        Whether the network returns its variance too, in as many channels behind those of the prediction.

    Returns
    -------
    NoiseConditional
        From the smallest to the largest noise of the schedule.
    """
    checks.choice(prediction, "prediction", PREDICTIONS)
    checks.choice(time, "time", ("interpolated", "nearest"))
    low, high = _span(span)
    steps, logs = _schedule(alphas_cumprod)
    classes = getattr(network, "class_embedding", None)
    label = _label(label, classes is not None, getattr(classes, "num_embeddings", None))
    lowest, highest = (math.exp(logs[i]) / (high - low) for i in (0, -1))

    def at(sigma: float) -> Denoiser:
        s = sigma * (high - low)
        step = float(np.interp(math.log(s), logs, steps))
        root = 1 / math.sqrt(1 + s**2)

        def clean(network: Network, x: Tensor) -> Tensor:
            exact = torch.float64 if x.dtype == torch.float64 else torch.float32
            t = torch.full((len(x),), step, dtype=exact, device=x.device)
            if time == "nearest":
                t = t.round().long()
            given = {} if label is None else {"class_labels": torch.full_like(t, label, dtype=torch.long)}
            output = _predicted(network, root * x, t, channels=1 + learned_variance, **given)
            if prediction == "sample":
                return output
            return x - s * output if prediction == "epsilon" else root * (root * x - s * output)

        return _Adapted(network, clean, (low, high))

    return NoiseConditional(at, lowest, highest)


def edm(network: Network, span: Span = (-1.0, 1.0), label: int | None = None) -> NoiseConditional:
    """A denoiser from ``net(x, sigma)``, which returns the clean image itself (Karras et al., 2022, "EDM").

    Other models become one by a line or two. A score network: ``lambda x, s: x + s**2 * score(x, s)``. Flow matching,
    whose network predicts v = n - x from (1 - t) x + t n: with t = s / (1 + s) and z = (1 - t) x the clean image is
    ``z - t * network(z, t)``.

    Parameters
    ----------
    network : callable
        ``network(x, sigma)``, x of shape (B, C, H, W) with the noise added and not scaled, sigma a tensor of no
        dimension in the units of ``span``, as in the authors' code. Its ``sigma_min`` and ``sigma_max`` are kept to
        if it has them.
    span : tuple of float
        Intensities of black and white in the network's own images.
    label : int, optional
        Class of a network with ``label_dim`` classes, from 0: given as ``network(x, sigma, one_hot)``.

    Returns
    -------
    NoiseConditional
    """
    low, high = _span(span)
    lowest, highest = (
        getattr(network, name, end) / (high - low) for name, end in (("sigma_min", 0.0), ("sigma_max", math.inf))
    )
    classes = getattr(network, "label_dim", 0)
    label = _label(label, classes > 0, classes)

    def at(sigma: float) -> Denoiser:
        s = sigma * (high - low)

        def clean(network: Network, x: Tensor) -> Tensor:
            given = () if label is None else (torch.eye(classes)[label].to(x).expand(len(x), -1),)
            return _predicted(network, x, x.new_tensor(s), *given)

        return _Adapted(network, clean, (low, high))

    return NoiseConditional(at, lowest, highest)


def rescaled(denoiser: Denoiser, span: Span) -> Denoiser:
    """A denoiser of intensities in [0, 1] from one of another range, which need not be told the noise level.

    Parameters
    ----------
    denoiser : callable
        (B, C, H, W) -> (B, C, H, W).
    span : tuple of float
        Intensities of black and white in its own images, such as (-1, 1) or (0, 255).

    Returns
    -------
    callable
        f(y), (B, C, H, W) -> (B, C, H, W).
    """
    return _Adapted(denoiser, _predicted, _span(span))


def _predicted(network: Network, x: Tensor, *told: Tensor, channels: int = 1, **classes: Tensor) -> Tensor:
    """The images that a network returns of ``x``, of its shape and precision; the first of ``channels`` such parts."""
    weight = next(network.parameters(), x) if isinstance(network, nn.Module) else x
    try:
        output = network(x.to(weight.dtype), *told, **classes)
    except RuntimeError as error:  # torch's own words do not say whose channels they are about
        raise RuntimeError(
            f"network failed on {x.dtype} images of shape {tuple(x.shape)}; check its channels and precision, and that "
            f"its halvings divide the sides ({next(iter(str(error).splitlines()), '')})"
        ) from error
    output = getattr(output, "sample", output)
    if not isinstance(output, Tensor):
        raise TypeError(f"network must return a torch.Tensor or an object with .sample, got {type(output).__name__}")
    shape = (len(x), channels * x.shape[1], *x.shape[2:])
    if output.shape != shape:
        raise ValueError(f"network must return images of shape {shape}, got {tuple(output.shape)}")
    return output[:, : x.shape[1]].to(x.dtype)


def _span(span: Span) -> Span:
    if not isinstance(span, tuple | list) or len(span) != 2:
        raise TypeError(f"span must be two numbers, the intensities of black and white, got {span!r}")
    low, high = (checks.number(value, "span") for value in span)
    if not low < high:
        raise ValueError(f"span must rise from black to white, got {low} and {high}")
    return low, high


def _schedule(alphas_cumprod: ArrayLike | Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Steps of a schedule and the logarithms of their noise levels, without those of no noise or no image."""
    alphas = checks.array(alphas_cumprod, "alphas_cumprod", 1)
    if (alphas < 0).any() or (alphas > 1).any() or (np.diff(alphas) >= 0).any():
        raise ValueError("alphas_cumprod must fall from step to step, within [0, 1]")
    steps = np.flatnonzero((alphas > 0) & (alphas < 1))
    if len(steps) == 0:
        raise ValueError("alphas_cumprod must have a step between 0 and 1")
    return steps, np.log((1 - alphas[steps]) / alphas[steps]) / 2


def _label(label: int | None, conditional: bool, classes: int | None) -> int | None:
    if label is None:
        if conditional:
            raise ValueError("network is conditioned on a class: give the class as label=")
        return None
    if not conditional:
        raise ValueError(f"network has no classes, so that label must be left out, got {label}")
    if checks.count(label, "label", 0) >= (classes or math.inf):
        raise ValueError(f"label must be below {classes}, the number of classes, got {label}")
    return label
