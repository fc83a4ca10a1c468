"""Muon against the polar factor, torch's own Muon and a problem whose answer is known."""

import pytest
import torch

from gahb.denoisers import BFCNN, UNet
from gahb.training.optimizers import NEWTON_SCHULZ, RMS, Muon, optimizers, orthogonalized


def matrix(m, n, seed=0):
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(8, 72), (32, 288), (72, 8), (16, 16), (1, 9)])
def test_singular_vectors_are_kept_and_singular_values_made_equal(shape):
    x = matrix(*shape)
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    core = u.T @ orthogonalized(x) @ v.T  # diagonal, if the singular vectors are kept
    values = core.diagonal()
    assert (core - torch.diag(values)).abs().max() < 1e-12
    assert values.min() > 0.68 and values.max() < 1.21


@pytest.mark.parametrize("shape", [(8, 72), (72, 8)])
def test_polynomials_of_the_gram_matrix_are_the_plain_iteration(shape):
    x = matrix(*shape)
    plain = x / x.norm()
    a, b, c = NEWTON_SCHULZ
    for _ in range(5):
        gram = plain @ plain.T
        plain = a * plain + (b * gram + c * gram @ gram) @ plain
    assert (orthogonalized(x) - plain).abs().max() < 1e-10


def test_the_size_of_a_matrix_does_not_matter_and_zero_stays_zero():
    x = matrix(4, 36).float()
    assert torch.allclose(orthogonalized(x), orthogonalized(1e6 * x), atol=1e-5)
    assert torch.equal(orthogonalized(torch.zeros(4, 36)), torch.zeros(4, 36))


def test_steps_are_those_of_torch_but_for_its_bfloat16():
    ours, theirs = (torch.nn.Parameter(matrix(6, 40).float()) for _ in range(2))
    start = ours.detach().clone()
    reference = torch.optim.Muon([theirs], lr=0.1, weight_decay=0, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    optimizer = Muon([ours], lr=0.1, momentum=0.9)
    for seed in range(1, 4):
        ours.grad, theirs.grad = (matrix(6, 40, seed).float() for _ in range(2))
        optimizer.step()
        reference.step()
    assert (ours - theirs).norm() < 0.02 * (ours - start).norm()  # bfloat16 has 8 bits


def test_a_convolution_moves_as_the_matrix_of_its_outputs():
    weight = torch.nn.Parameter(torch.zeros(8, 4, 3, 3).contiguous(memory_format=torch.channels_last))
    weight.grad = matrix(8, 36).float().view(8, 4, 3, 3)
    Muon([weight], lr=0.5).step()
    expected = -0.5 * RMS * 6 * orthogonalized(weight.grad.flatten(1))
    assert torch.allclose(weight.detach().flatten(1), expected, atol=1e-6)


@pytest.mark.parametrize("net", [BFCNN(4, 8), BFCNN(3, 8, in_channels=3), UNet(4, 1), UNet(4, 1, in_channels=4)])
def test_every_parameter_has_one_optimizer_and_hidden_weights_have_muon(net):
    muon, adam = optimizers(net, "muon", 0.1)
    owned = [p for optimizer in (muon, adam) for p in optimizer.param_groups[0]["params"]]
    assert sorted(map(id, owned)) == sorted(map(id, net.parameters()))
    assert all(min(p.shape[:2]) > net.in_channels for p in muon.param_groups[0]["params"])
    assert all(p.ndim == 1 or net.in_channels in p.shape[:2] for p in adam.param_groups[0]["params"])


def test_a_network_without_hidden_weights_has_adam_alone():
    (adam,) = optimizers(BFCNN(2, 8), "muon", 0.1)
    assert type(adam) is torch.optim.Adam


def test_weights_of_one_shape_move_together_as_each_would_alone():
    shapes = [(4, 2, 3, 3), (4, 2, 3, 3), (2, 4, 3, 3), (4, 2, 3, 3)]
    together, alone = ([torch.nn.Parameter(torch.zeros(shape)) for shape in shapes] for _ in range(2))
    optimizers = [Muon(together, lr=0.1)] + [Muon([weight], lr=0.1) for weight in alone]
    for step in range(3):
        for seed, pair in enumerate(zip(together, alone, strict=True)):
            for weight in pair:
                weight.grad = matrix(*weight.flatten(1).shape, seed=10 * step + seed).float().view(weight.shape)
        together[3].grad = alone[3].grad = None  # one without a gradient stays where it is
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(together, alone, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    assert torch.equal(together[3], torch.zeros(4, 2, 3, 3)) and float(together[0].detach().norm()) > 0.1
