"""Denoisers that the paper's authors published, read as :class:`gahb.BFCNN` or :class:`gahb.UNet`."""

import argparse
import os
import re
import warnings
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from gahb._util.files import absent, first_bytes, is_passing, try_again, what_is
from gahb.denoisers import BFCNN, UNet

State = dict[str, Tensor]

# Networks of the authors that gahb does not read, by the keys that only they have.
OTHERS = {
    r"conv\d\.": "the UNet of bias_free_denoising, which has dilated convolutions",
    r"cnn\.": "the recurrent network (R-CNN) of bias_free_denoising",
    r"cnn_list\.": "the DenseNet of bias_free_denoising",
    r"gammas\.\d+\.weight": "an early BF-CNN, whose running values are in a second file, running_sd.pt",
    r"(?!bn_layer_list\.).*\.bias$": "a network that is not bias-free",
}
UNUSED = r"bn_layer_list\.\d+\.(bias|running_mean|num_batches_tracked)"


def load_released(path: str | Path, first_relu: bool = True) -> BFCNN | UNet:
    """Read a bias-free network that the authors published.

    These are BF-CNN, and BF_CNN_RF and the UNet of the paper's later versions. Depth, channels, kernel sizes and blocks
    are read off the weights. All of them estimate the noise; the returned network denoises.

    Parameters
    ----------
    path : str or Path
        A file written by ``torch.save``: a state dict, in any floating type, or a training checkpoint whose ``model``
        is one. Keys may begin with ``module.``.
    first_relu : bool
        Whether a ReLU follows the first convolution of a BF-CNN whose kernels are all 3x3: the file does not tell. One
        does in the authors' earlier releases; in the code of 2024 none does unless ``first_layer_linear`` is set to
        False. Not used for other files: no ReLU follows where some kernels are 1x1 (BF_CNN_RF), and one does in the
        UNet.

    Returns
    -------
    BFCNN or UNet
        In evaluation mode, float32, on the CPU; ``net(y)`` is the denoised image.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    PermissionError
        If it may not be read.
    ValueError
        If the file needs arbitrary code to be read (it is never run), is damaged, is a web page or a Git LFS pointer
        saved in place of the weights, or holds another network.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be that of a .pt file, got {path!r}; papermill passes text by -r denoiser PATH")
    path = Path(path).expanduser()
    if not path.is_file():
        raise absent(path, "denoiser", "the path of a .pt file")
    try:
        state = _read_state(path)
        _refuse_others(state)
        return _network(state, first_relu).eval()
    except PermissionError:
        raise PermissionError(f"{path} may not be read; change its permissions") from None
    except ValueError as error:  # the authors call every file model.pt: its folder says which one it is
        raise ValueError(f"{'/'.join(path.parts[-2:])} {error}") from None


def _read_state(path: Path) -> State:
    """The tensors of a file in float32, by their keys without the prefixes of wrappers."""
    try:
        # The authors' checkpoints pickle their command line as an argparse.Namespace: plain data.
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # damaged bytes can fail in any way
        if is_passing(error):
            raise try_again(str(path), error) from None
        raise ValueError(f"was refused: {_why_unreadable(path, error)}.") from None
    state = state.get("model", state) if isinstance(state, dict) else state
    if isinstance(state, list) and state:  # a checkpoint holds a list of models, here of one
        state = state[0]
    if not isinstance(state, dict):
        raise ValueError(f"holds a {type(state).__name__}; a state dict of tensors is expected")
    state = {re.sub(r"^(module\.|_orig_mod\.)+", "", str(key)): value for key, value in state.items()}
    return {key: value.float() for key, value in state.items() if isinstance(value, Tensor)}


def _why_unreadable(path: Path, error: Exception) -> str:
    what, to_do = what_is(first_bytes(path))
    if what == "a web page":
        return (
            "it is a web page, saved in place of the file that it shows. Clone the repository, or take the link "
            "'Download raw file' on that page"
        )
    if what == "a Git LFS pointer":
        return (
            "it is a Git LFS pointer, which only names the weights. Run 'git lfs install' and 'git lfs pull' in the "
            "clone, or take the link 'Download raw file' on the page of the file"
        )
    if what:
        return f"it is {what}" + (f": {to_do}" if to_do else "")
    if re.search("unsupported (global|class)", str(error), re.IGNORECASE):
        return (
            "reading it would run code that is stored in it, which gahb never does. Ask for a plain state dict of "
            "tensors"
        )
    return "it is damaged or not a file of torch.save. Ask for a plain state dict of tensors, or fetch it again"


def _refuse_others(state: State) -> None:
    for pattern, network in OTHERS.items():
        if key := next((key for key in state if re.match(pattern, key)), None):
            raise ValueError(f"holds {network} ({key}); gahb reads the authors' BF-CNN, BF_CNN_RF and later UNet")
    if not state.keys() & {"conv_layers.0.weight", "first_layer.weight", "encoder.0.0.weight"}:
        raise ValueError(
            "holds no network of the authors that gahb knows: expected keys conv_layers.i.weight, first_layer.weight "
            f"or encoder.b.i.weight, found {', '.join(list(state)[:3]) or 'none'}"
        )


def _network(state: State, first_relu: bool) -> BFCNN | UNet:
    unet = "encoder.0.0.weight" in state
    try:
        net, keys = _unet(state) if unet else _bf_cnn(state, first_relu)
        _fill(net, keys, state)
    except ValueError as error:
        kind = "the authors' UNet" if unet else "a BF-CNN"
        raise ValueError(f"does not hold the layers of {kind}: {error}") from None
    return net


def _unet(state: State) -> tuple[UNet, list[str]]:
    """A UNet of the size of the file's, and the file's keys in the order of its tensors."""
    channels, in_channels = _conv(state, "encoder.0.0.weight").shape[:2]
    blocks = len({key.split(".")[1] for key in state if key.startswith("encoder.")})
    net = UNet(channels, blocks, in_channels)

    def theirs(key: str) -> str:
        key = re.sub(rf"^encoder\.{blocks}\.", "mid_block.", key)
        return re.sub(r"^up\.", "upsample.", key).replace(".gain", ".gammas")

    return net, [theirs(key) for key in net.state_dict()]


def _bf_cnn(state: State, first_relu: bool) -> tuple[BFCNN, list[str]]:
    """A BFCNN of the size of the file's, and the file's keys in the order of its tensors."""
    keys = _bf_cnn_keys(state)
    convs = [_conv(state, key) for key in (keys[0], *keys[1::3])]
    channels, in_channels = convs[0].shape[:2]
    if len(convs[-1]) == in_channels - 1:
        raise ValueError(
            f"it takes {in_channels} channels and returns {in_channels - 1}, as the authors' conditional denoisers of "
            "wavelet coefficients do"
        )
    kernels = [conv.shape[-1] for conv in convs]
    first_relu = first_relu and 1 not in kernels
    return BFCNN(len(convs), channels, in_channels, first_relu=first_relu, kernel_sizes=kernels), keys


def _bf_cnn_keys(state: State) -> list[str]:
    """The keys of the first convolution, of each convolution between with its gain and sd, and of the last one."""

    def number(start: str) -> int:
        return sum(key.startswith(start) for key in state)

    if "first_layer.weight" in state:
        first, last = "first_layer.weight", "last_layer.weight"
        middle = [f"hidden_layer_list.{i}.weight" for i in range(number("hidden_layer_list."))]
        gain, sd = "bn_layer_list.{}.weight", "bn_layer_list.{}.running_var"
    else:
        first, *middle, last = [f"conv_layers.{i}.weight" for i in range(max(2, number("conv_layers.")))]
        norm = "BN_layers.{0}.{1}" if number("BN_layers.") else "{1}.{0}"
        gain, sd = norm.format("{}", "gammas"), norm.format("{}", "running_sd")
    return [first, *chain(*((conv, gain.format(i), sd.format(i)) for i, conv in enumerate(middle))), last]


def _conv(state: State, key: str) -> Tensor:
    if key not in state:
        raise ValueError(f"{key} is missing")
    if state[key].ndim != 4:
        raise ValueError(f"expected {key} of four dimensions, found the shape {tuple(state[key].shape)}")
    return state[key]


@torch.no_grad()
def _fill(net: nn.Module, keys: Iterable[str], state: State) -> None:
    for tensor, key in zip(net.state_dict().values(), keys, strict=True):
        if key not in state:
            raise ValueError(f"{key} is missing")
        value = state[key] if tensor.ndim == 4 else state[key].flatten()
        if value.shape != tensor.shape:  # copy_ alone would stretch a 1x1 kernel to 3x3
            raise ValueError(f"expected {key} of shape {tuple(tensor.shape)}, found {tuple(value.shape)}")
        if key.endswith("running_var"):
            value = value.sqrt() + 1e-5  # what this release divides by
        if not value.isfinite().all() or ("running" in key and value.min() <= 0):
            raise ValueError(f"{key} must be finite{', and above 0' if 'running' in key else ''}")
        tensor.copy_(value)
    if unknown := [key for key in state.keys() - set(keys) if not re.fullmatch(UNUSED, key)]:
        raise ValueError(f"{min(unknown)} is no part of it")
