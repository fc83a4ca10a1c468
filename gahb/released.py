"""Denoisers that the paper's authors published, read as :class:`gahb.BFCNN`."""

import argparse
import re
import warnings
from pathlib import Path

import torch

from gahb.denoisers import BFCNN


def load_released(path, first_relu=True):
    """Read a published bias-free network of the authors.

    Parameters
    ----------
    path : str or Path
        A file written by ``torch.save``: a state dict with ``running_sd.i`` and ``gammas.i``, one
        with ``BN_layers.i.*``, or a training checkpoint whose ``model`` holds
        ``first_layer.weight`` and so on. Depth, width and image channels are read off the
        weights.
    first_relu : bool
        Whether a ReLU follows the first convolution; the file does not tell. It does in the
        authors' code.

    Returns
    -------
    BFCNN
        In evaluation mode, float32, on the CPU; ``net(y)`` is the denoised image.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    PermissionError
        If it may not be read.
    ValueError
        If the file needs arbitrary code to be read (it is never run), is damaged, or holds
        another network.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no released denoiser at {path}; give the path of a .pt file")
    state = _read_state(path)
    convs, norms = _layers(state, path)
    try:
        channels, in_channels = convs[0].shape[:2]
        net = BFCNN(len(convs), channels, in_channels, first_relu=first_relu)
        own_convs = [m for m in net.noise if hasattr(m, "kernel_size")]
        own_norms = [m for m in net.noise if hasattr(m, "running_sd")]
        for layer, weight in zip(own_convs, convs, strict=True):
            _fill(layer.weight, weight)
        for layer, (sd, gain) in zip(own_norms, norms, strict=True):
            _fill(layer.running_sd, sd.flatten())
            _fill(layer.gain, gain.flatten())
    except ValueError as error:
        raise ValueError(f"{path.name} does not hold the layers of a BF-CNN: {error}") from None
    return net.eval()


@torch.no_grad()
def _fill(tensor, value):
    if tensor.shape != value.shape:  # copy_ alone would stretch a 1x1 kernel to 3x3
        raise ValueError(f"expected a weight of shape {tuple(tensor.shape)}, found {tuple(value.shape)}")
    tensor.copy_(value)


def _read_state(path):
    try:
        # The authors' checkpoints pickle their command line as an argparse.Namespace: plain data.
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise PermissionError(f"{path} may not be read; change its permissions") from None
    except Exception as error:  # damaged bytes can fail in any way
        reason = "it is damaged or not a file of torch.save"
        if re.search("unsupported (global|class)", str(error), re.IGNORECASE):
            reason = "reading it would run code that is stored in it, which gahb never does"
        raise ValueError(f"{path.name} was refused: {reason}. Ask for a plain state dict of tensors.") from None
    state = state.get("model", state) if isinstance(state, dict) else state
    if isinstance(state, list) and state:  # a checkpoint holds a list of models, here of one
        state = state[0]
    if not isinstance(state, dict):
        raise ValueError(f"{path.name} holds a {type(state).__name__}; a state dict of tensors is expected")
    state = {re.sub(r"^(module\.|_orig_mod\.)+", "", str(key)): value for key, value in state.items()}
    return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}


def _layers(state, path):
    """Weights of the convolutions, and (sd, gain) of the norms, in order."""

    def numbered(pattern):
        found = ((re.fullmatch(pattern, key), value) for key, value in state.items())
        return [v for _, v in sorted((int(m[1]), v) for m, v in found if m)]

    with_bias = re.compile(r"((conv_layers|hidden_layer_list)\.\d+|(first|last)_layer)\.bias")
    biases = [key for key in state if with_bias.fullmatch(key)]
    if biases:
        raise ValueError(f"{path.name} holds a network that is not bias-free: {', '.join(biases[:3])}")
    convs = numbered(r"conv_layers\.(\d+)\.weight")
    if convs:
        sds = numbered(r"(?:BN_layers\.)?running_sd\.(\d+)") or numbered(r"BN_layers\.(\d+)\.running_sd")
        gains = numbered(r"(?:BN_layers\.)?gammas\.(\d+)") or numbered(r"BN_layers\.(\d+)\.gammas")
        return convs, list(zip(sds, gains, strict=False))
    if "first_layer.weight" in state and "last_layer.weight" in state:
        hidden = numbered(r"hidden_layer_list\.(\d+)\.weight")
        gains = numbered(r"bn_layer_list\.(\d+)\.weight")
        variances = numbered(r"bn_layer_list\.(\d+)\.running_var")
        # This release divides by sqrt(running_var) + 1e-5.
        sds = [variance.sqrt() + 1e-5 for variance in variances]
        return [state["first_layer.weight"], *hidden, state["last_layer.weight"]], list(zip(sds, gains, strict=False))
    keys = ", ".join(list(state)[:3]) or "none"
    raise ValueError(
        f"{path.name} holds no BF-CNN that gahb knows: expected keys conv_layers.i.weight or "
        f"first_layer.weight, found {keys}"
    )
