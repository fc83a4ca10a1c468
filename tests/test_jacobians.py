"""Jacobians against central differences, row-by-row autograd and closed forms."""

import numpy as np
import pytest
import torch
from helpers import NETWORKS, OPTIMAL, case, draw, gaussian, mixture, network, ray, row_by_row

from gahb import _products, jacobian, jacobians
from gahb.jacobians import divergence

CASES = [*NETWORKS, *OPTIMAL]


def central_differences(f, y, step):
    steps = step * torch.eye(y.numel(), dtype=y.dtype).view(-1, *y.shape[1:])
    with torch.no_grad():
        return ((f(y + steps) - f(y - steps)) / (2 * step)).flatten(1).T


def close(a, b, tolerance):
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance * float(b.abs().max()))


@pytest.mark.parametrize("which", CASES)
def test_jacobian_equals_row_by_row_autograd(which):
    f, y = case(which)
    close(jacobian(f, y), row_by_row(f, y), 1e-12)  # float64 rounding


@pytest.mark.parametrize("which", CASES)
def test_jacobian_equals_central_differences(which):
    """Networks are linear around y: a step too small to cross a gate. Others: error step^2, rounding 1e-16 / step."""
    f, y = case(which)
    step = 1e-7 if isinstance(which, str) else 1e-5
    close(jacobian(f, y), central_differences(f, y, step), 1e-7)


@pytest.mark.parametrize("prior", OPTIMAL)
def test_jacobian_of_optimal_denoiser_is_its_closed_form(prior):
    f, y, expected = prior()
    close(jacobian(f, y), expected, 1e-9 if prior is ray else 1e-11)  # a truncated normal's variance cancels


@pytest.mark.parametrize("name", NETWORKS)
def test_denoised_image_is_the_jacobian_times_the_noisy_one(name):
    f, y = network(name)
    close(jacobian(f, y) @ y.flatten(), f(y).detach().flatten(), 1e-12)  # Eq. 6


@pytest.mark.parametrize("which", ["BFCNN", "UNet of a size that 4 does not divide", gaussian])
@pytest.mark.parametrize("net_dtype", [torch.float32, torch.float64])
def test_jacobian_has_the_dtype_of_the_image(which, net_dtype):
    f, y = case(which)
    expected = row_by_row(f, y)
    if isinstance(f, torch.nn.Module):
        f = f.to(net_dtype)
    single, double = jacobian(f, y.float()), jacobian(f, y)
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    close(single.double(), expected, 1e-5)  # float32 rounding
    close(double, expected, 1e-12 if net_dtype == torch.float64 else 1e-5)


def test_jacobian_of_image_with_and_without_batch_dimension():
    f, y = network("BFCNN without first ReLU, 3 channels")
    assert torch.equal(jacobian(f, y), jacobian(f, y[0]))
    assert jacobian(f, y).shape == (90, 90)


@pytest.mark.parametrize("which", ["BFCNN", "UNet", mixture])
@pytest.mark.parametrize("images", [1, 7, 20, 64, 1000])
def test_jacobian_does_not_depend_on_the_chunks(monkeypatch, which, images):
    f, y = case(which)
    monkeypatch.setattr(_products, "CHUNK_PIXELS", images * y.numel())
    close(jacobian(f, y), row_by_row(f, y), 1e-12)


@pytest.mark.parametrize("which", [name for name in NETWORKS if "BFCNN" in name])
@pytest.mark.parametrize("side", [1, 3, 20])
def test_jacobian_does_not_depend_on_the_windows(monkeypatch, which, side):
    """Images wider than the reach of the network too, where most of the Jacobian is zero."""
    f, small = case(which)
    monkeypatch.setattr(_products, "BLOCK", side)
    for y in (small, draw(1, small.shape[1], 17, 3, seed=2)):
        close(jacobian(f, y), row_by_row(f, y), 1e-12)


@pytest.mark.parametrize(("name", "step"), [("BFCNN", "_through"), ("UNet", "columns")])
def test_network_is_left_as_it_was_after_an_exception(monkeypatch, name, step):
    f, y = network(name)
    f.train()
    with pytest.raises(ValueError, match="y must have shape"):  # while the gates are recorded
        jacobian(f, torch.cat([y, y], dim=1))
    assert f.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in f.modules())

    def fail(*arguments):
        raise KeyError("while the gates are frozen")

    monkeypatch.setattr(_products if step == "_through" else jacobians, step, fail)
    with pytest.raises(KeyError):
        jacobian(f, y)
    assert f.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in f.modules())
    assert all(p.requires_grad for p in f.parameters())


@pytest.mark.parametrize("which", ["UNet of a size that 4 does not divide", mixture])
def test_divergence_is_an_unbiased_trace(which):
    """Within four standard errors, of the variance that Hutchinson's estimate has for random signs."""
    f, y = case(which)
    matrix, probes = row_by_row(f, y).numpy(), 500
    off = (matrix + matrix.T) / 2 * (1 - np.eye(len(matrix)))
    error = np.sqrt(2 * (off**2).sum() / probes)
    assert error < 0.1 * np.trace(matrix)
    assert float(divergence(f, y, probes)) == pytest.approx(np.trace(matrix), abs=4 * error)
    averages = [float(divergence(f, y, 1, seed)) for seed in range(50)]
    assert np.mean(averages) == pytest.approx(np.trace(matrix), abs=4 * error * np.sqrt(probes / 50))


def test_divergence_of_a_diagonal_jacobian_is_exact():
    gains, y = draw(2, 3, 4).abs(), draw(5, 2, 3, 4)
    expected = (gains * 3 * y.square()).flatten(1).sum(1)
    torch.testing.assert_close(divergence(lambda y: gains * y**3, y, probes=1), expected)  # every sign squared is 1


@pytest.mark.parametrize("name", ["BFCNN", "UNet", "ResUNet"])
def test_divergence_of_an_image_does_not_depend_on_its_batch(name):
    f, _ = network(name)
    y = draw(6, 1, 8, 8, seed=2)
    together = divergence(f.train(), y)
    assert f.training
    for n in (1, 2, 5):
        torch.testing.assert_close(divergence(f, y[:n]), together[:n], rtol=1e-11, atol=0)  # float64 rounding
    other = torch.cat([y[:2], 5 * draw(4, 1, 8, 8, seed=9)])
    torch.testing.assert_close(divergence(f, other)[:2], together[:2], rtol=1e-11, atol=0)
    assert not torch.equal(divergence(f, y, seed=1), together)
    assert not torch.allclose(divergence(f, y[:1].expand(6, -1, -1, -1)), together[:1])  # signs of their own
