"""What analyses leave alone: networks and their modes, images, and the caller's random states."""

import numpy as np
import pytest
import torch
from helpers import NETWORKS, draw, network

import gahb
from gahb import bases, datasets, metrics, oracle, rivals, stats
from gahb.denoisers import BiasFreeBatchNorm
from gahb.jacobians import divergence

ANALYSES = {  # of a network f and noisy images y
    "jacobian": lambda f, y: gahb.jacobian(f, y[:1]),
    "adaptive_basis": lambda f, y: gahb.adaptive_basis(f, y[:1]).vectors,
    "leading vectors": lambda f, y: gahb.adaptive_basis(f, y[:1], k=3).vectors,
    "divergence": lambda f, y: divergence(f, y),
    "analyse": lambda f, y: bases.analyse(f, y[0], 0.1).coefficients,
    "sample": lambda f, y: gahb.sample(f, y, 0.5, 100.0, mean=0.5).images,  # one step: it need not contract
    "denoised": metrics.denoised,
    "squared_differences": lambda f, y: metrics.squared_differences(f, lambda y: y, y, 0.1),
    "psnr_curve": lambda f, y: gahb.psnr_curve(f, y, 0.1),
    "stein_risk": lambda f, y: gahb.stein_risk(f, y, 0.1)["sure"],
    "oracle_errors": lambda f, y: torch.from_numpy(
        oracle.oracle_errors(f, y, 0.1, oracle.fixed_transforms(y))["adaptive"]
    ),
}
MODES = ["BFCNN", "UNet", "ResUNet"]


def state(f, y):
    """All that an analysis might change."""
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in f.modules())
    modes = [m.training for m in f.modules()], [(p.requires_grad, p.grad) for p in f.parameters()]
    return hooks, modes, (y.requires_grad, y.grad), [*(v.tolist() for v in f.state_dict().values()), y.tolist()]


@pytest.mark.parametrize("which", MODES)
@pytest.mark.parametrize("analysis", ANALYSES)
def test_a_network_that_trains_is_analysed_in_evaluation_mode_and_left_as_it_was(analysis, which):
    f, y = network(which)[0], draw(3, *NETWORKS[which][1], seed=1)
    expected = ANALYSES[analysis](f, y)
    f.train()
    next(m for m in f.modules() if isinstance(m, BiasFreeBatchNorm)).eval()
    next(f.parameters()).requires_grad_(False)
    y.requires_grad_(analysis in ("jacobian", "adaptive_basis", "leading vectors", "divergence"))
    before = state(f, y)
    found = ANALYSES[analysis](f, y)
    assert state(f, y) == before
    assert not found.requires_grad
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


TABLE = np.random.default_rng(7).random((7, 20))
Y = draw(3, 1, 8, 8)
WITHOUT_NETWORK = {
    "nearest": lambda: gahb.nearest(Y, Y).similarity,
    "wavelet_denoise": lambda: rivals.wavelet_denoise(Y, 0.1, levels=1),
    "fit_slope": lambda: stats.fit_slope(np.arange(7), TABLE, 0, 30).error,
    "confidence_interval": lambda: stats.confidence_interval(TABLE),
    "psnr_gain": lambda: stats.psnr_gain(TABLE, TABLE[::-1])[1],
    "shuffled": lambda: datasets.shuffled(Y),
    "BFCNN": lambda: gahb.BFCNN(3, 4).noise[0].weight.detach(),
    "UNet": lambda: gahb.UNet(4, 1).encoder[0][0].weight.detach(),
    "ResUNet": lambda: gahb.ResUNet(4, 1).first.weight.detach(),
}


@pytest.mark.parametrize("routine", [*ANALYSES, *WITHOUT_NETWORK])
def test_global_random_states_and_grad_mode_are_neither_read_nor_changed(routine):
    f, results = network("UNet")[0], []
    for seed, mode in ((0, True), (9, False)):
        torch.manual_seed(seed)
        np.random.seed(seed)
        before = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()
        with torch.set_grad_enabled(mode):
            results.append(ANALYSES[routine](f, Y) if routine in ANALYSES else WITHOUT_NETWORK[routine]())
            assert torch.is_grad_enabled() == mode
        assert (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()) == before
    np.testing.assert_array_equal(*results)
