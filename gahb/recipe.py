"""What decides the weights of a denoiser."""

import copy
import json
from dataclasses import dataclass, field

import torch

from gahb import _checks
from gahb.denoisers import NETWORKS

SIGMA_LAWS = ("uniform", "sqrt-uniform", "log-uniform")
SCHEDULES = ("halving", "one-cycle")
OPTIMIZERS = ("adam", "muon")
PRECISIONS = ("float32", "bfloat16", "auto")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights of a denoiser.

    The defaults are the paper's, but for ``images_seen``, which it does not state.

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
        ``"BFCNN"``, ``"UNet"`` or ``"ResUNet"``; see :mod:`gahb.denoisers`.
    size : dict
        Arguments of the network, such as ``{"depth": 20, "channels": 64}``.
    sigma_max : float
        Largest noise level in training, intensities.
    sigma_law : str
        ``"uniform"``: sigma uniform on [0, sigma_max], the paper's text. ``"sqrt-uniform"``: its
        square root is uniform, the authors' code; more small noise. ``"log-uniform"``: its
        logarithm is, from sigma_max / 200 on; the most small noise.
    weight_power : float or "balanced"
        p of the loss norm(x - f(y))^2 / sigma^p; the paper's is 0. ``"balanced"``: divided by the
        running mean of the errors of that noise level, so that each level has the same part in
        the loss, as in Karras et al. (2024, EDM2) by a learned weight. The best denoiser of each
        noise level does not depend on it.
    batch_size, images_seen : int
        Images a step, and in the whole training, which is rounded up to whole steps.
    optimizer : str
        ``"adam"``, the paper's; ``"muon"``: see :func:`gahb.optimizers.optimizers`.
    learning_rate : float
        Of the optimizer; the peak rate of ``"one-cycle"``.
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

    Raises
    ------
    ValueError
        If a setting is out of range, or none of those that are named.
    TypeError
        If a setting is of another type, or a dict holds what JSON cannot.
    """

    name: str
    data: dict
    images: torch.Tensor | None = field(default=None, repr=False, compare=False)
    network: str = "BFCNN"
    size: dict = field(default_factory=lambda: {"depth": 20, "channels": 64})
    sigma_max: float = 1.0
    sigma_law: str = "uniform"
    weight_power: float | str = 0.0
    batch_size: int = 512
    images_seen: int = 10_000_000
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "halving"
    halving_images: int = 100_000_000
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self):
        if not isinstance(self.name, str):
            raise TypeError(f"name must be text, got {self.name!r}")
        _checks.choice(self.network, "network", tuple(NETWORKS))
        _checks.choice(self.sigma_law, "sigma_law", SIGMA_LAWS)
        _checks.choice(self.optimizer, "optimizer", OPTIMIZERS)
        _checks.choice(self.schedule, "schedule", SCHEDULES)
        _checks.choice(self.precision, "precision", PRECISIONS)
        for name in ("batch_size", "images_seen", "halving_images"):
            self._set(name, _checks.count(getattr(self, name), name))
        for name in ("sigma_max", "learning_rate"):
            self._set(name, float(_checks.positive(getattr(self, name), name)))
        if self.weight_power != "balanced":
            self._set("weight_power", _checks.number(self.weight_power, "weight_power"))
        self._set("seed", _checks.count(self.seed, "seed", 0))
        for name in ("data", "size"):
            self._set(name, _plain_dict(getattr(self, name), name))

    def _set(self, name, value):
        """1 and 1.0, a list and a tuple are the same setting: one form of each, which JSON keeps."""
        object.__setattr__(self, name, value)

    def settings(self):
        """All fields but the images, as a dict that JSON can hold."""
        fields = {key: value for key, value in self.__dict__.items() if key != "images"}
        return copy.deepcopy(fields)


def _plain_dict(value, name):
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be a dict, got {value!r}")
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        raise TypeError(f"{name} must hold only numbers, text, lists and dicts, got {value!r}") from None
