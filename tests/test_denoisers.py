"""The networks against plain torch code, the paper's numbers and the homogeneity of Eq. 6."""

import copy

import numpy as np
import pytest
import torch
from helpers import shuffled_norms
from torch.nn import functional as F

from gahb import BFCNN, ResUNet, UNet
from gahb.denoisers import BiasFreeBatchNorm, evaluating


def small_bfcnn(**options):
    return shuffled_norms(BFCNN(5, 8, **options))


def small_unet(**options):
    return shuffled_norms(UNet(4, 2, **options))


def small_resunet(**options):
    return shuffled_norms(ResUNet(4, 2, **options))


def noisy(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parameter_count(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("build", "published"),
    [
        (BFCNN, 665_856),  # Appendix A
        (lambda: BFCNN(21), 702_784),  # the 21 layers of its text: 576 + 19 * (36,864 + 64) + 576
        (lambda: BFCNN(in_channels=3), 576 * 3 * 2 + 18 * (36_864 + 64)),
        (UNet, 7_659_264),  # the authors' later network
        # 2 * 144 outer; residual blocks of 18 c^2 + 2 c: two of 16, two of 32, two of 64 channels; 2x2 down and
        # up; 1x1 merging
        (ResUNet, 288 + 2 * (18 * 5_376 + 2 * 112) + 2 * 4 * (16 * 32 + 32 * 64) + 2 * (16**2 + 32**2)),
    ],
)
def test_parameter_count(build, published):
    assert parameter_count(build()) == published


def plain_norm(x, layer):
    return x / layer.running_sd[:, None, None] * layer.gain[:, None, None]


def plain_block(x, block):
    """Convolutions, norms and ReLUs in the order in which ``block`` lists its weights."""
    for layer in block:
        if isinstance(layer, torch.nn.Conv2d):
            x = F.conv2d(x, layer.weight, padding="same")
        elif isinstance(layer, BiasFreeBatchNorm):
            x = plain_norm(x, layer)
        else:
            x = x.clamp_min(0)
    return x


VARIANTS = [{}, {"first_relu": False}, {"kernel_sizes": [1, 3, 1, 5, 3]}, {"kernel_sizes": 1, "first_relu": False}]


@pytest.mark.parametrize("options", VARIANTS)
def test_bfcnn_is_conv_relu_then_conv_norm_relu_then_conv(options):
    net, y = small_bfcnn(**options, in_channels=3), noisy(2, 3, 6, 7)
    convs = [layer for layer in net.noise if isinstance(layer, torch.nn.Conv2d)]
    norms = [layer for layer in net.noise if isinstance(layer, BiasFreeBatchNorm)]
    assert (len(convs), len(norms)) == (5, 3)
    sizes = options.get("kernel_sizes", 3)
    assert [conv.kernel_size for conv in convs] == [(k, k) for k in np.broadcast_to(sizes, 5)]
    x = F.conv2d(y, convs[0].weight, padding="same")
    x = x.clamp_min(0) if options.get("first_relu", True) else x
    for conv, norm in zip(convs[1:-1], norms, strict=True):
        x = plain_norm(F.conv2d(x, conv.weight, padding="same"), norm).clamp_min(0)
    expected = y - F.conv2d(x, convs[-1].weight, padding="same")
    torch.testing.assert_close(net(y), expected, rtol=1e-12, atol=1e-12)  # float64 rounding


def test_unet_is_two_convolutions_a_block_with_skip_connections():
    net, y = small_unet(), noisy(2, 1, 8, 12)
    first = plain_block(y, net.encoder[0])
    second = plain_block(F.avg_pool2d(first, 2), net.encoder[1])
    middle = plain_block(F.avg_pool2d(second, 2), net.encoder[2])
    x = F.conv_transpose2d(middle, net.up[1].weight, stride=2)
    x = plain_block(torch.cat([x, second], 1), net.decoder[1])
    x = F.conv_transpose2d(x, net.up[0].weight, stride=2)
    expected = y - plain_block(torch.cat([x, first], 1), net.decoder[0])
    torch.testing.assert_close(net(y), expected, rtol=1e-12, atol=1e-12)
    widths = [[w.shape[0] for w in block.parameters() if w.ndim == 4] for block in net.encoder]
    assert widths == [[4, 4], [8, 8], [16, 16]]


def test_resunet_is_residual_blocks_with_skip_connections():
    net, y = small_resunet(), noisy(2, 1, 8, 12)

    def residual(x, block):
        return x + plain_block(x, block.branch)

    x, skips = F.conv2d(y, net.first.weight, padding=1), []
    for level in range(2):
        skips.append(residual(x, net.encoder[level]))
        x = F.conv2d(skips[-1], net.down[level].weight, stride=2)
    x = residual(residual(x, net.middle[0]), net.middle[1])
    for level in (1, 0):
        x = torch.cat([F.conv_transpose2d(x, net.up[level].weight, stride=2), skips[level]], 1)
        x = residual(F.conv2d(x, net.merge[level].weight), net.decoder[level])
    expected = y - F.conv2d(x, net.last.weight, padding=1)
    torch.testing.assert_close(net(y), expected, rtol=1e-12, atol=1e-12)
    assert [len(down.weight) for down in net.down] == [8, 16]


@pytest.mark.parametrize("build", [small_unet, small_resunet])
@pytest.mark.parametrize("shape", [(1, 1, 9, 11), (2, 1, 1, 1), (1, 1, 3, 8)])
def test_the_border_is_repeated_where_a_size_does_not_divide(shape, build):
    net, y = build(), noisy(*shape)
    height, width = shape[-2:]
    rows = torch.arange(-(-height // 4) * 4).clamp_max(height - 1)
    columns = torch.arange(-(-width // 4) * 4).clamp_max(width - 1)
    expected = net(y[:, :, rows][..., columns])[..., :height, :width]
    assert net(y).shape == y.shape
    torch.testing.assert_close(net(y), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("build", [small_bfcnn, small_unet, small_resunet])
@pytest.mark.parametrize("scale", [1e-3, 0.37, 41.0])
def test_homogeneous_in_evaluation_mode(build, scale):
    net, y = build(), noisy(2, 1, 9, 8) - 0.3
    torch.testing.assert_close(net(scale * y), scale * net(y), rtol=1e-11, atol=0)  # float64 rounding


@pytest.mark.parametrize("build", [small_bfcnn, small_unet, small_resunet])
def test_no_additive_constant(build):
    net, zero = build(), torch.zeros(2, 1, 8, 8, dtype=torch.float64)
    assert not any("bias" in name for name, _ in net.named_parameters())
    assert torch.equal(net(zero), zero)
    assert torch.equal(net.train()(zero), zero)


@pytest.mark.parametrize("build", [small_bfcnn, small_unet, small_resunet])
def test_images_of_a_batch_are_denoised_alone_in_evaluation_mode(build):
    net, y = build(), noisy(3, 1, 8, 8)
    alone = torch.cat([net(image[None]) for image in y])
    torch.testing.assert_close(net(y), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batch_norm_in_training_divides_by_the_batch_and_keeps_a_running_value(dtype):
    rtol = 1e-5 if dtype == torch.float32 else 1e-12
    layer = BiasFreeBatchNorm(3).to(dtype).train()
    layer.gain.data = torch.tensor([0.5, 1.0, -2.0], dtype=dtype)
    running = np.ones(3)
    for seed in range(3):
        x = (noisy(4, 3, 5, 6, seed=seed) * torch.tensor([1.0, 3.0, 10.0])[:, None, None] + 2).to(dtype)
        values = x.double().numpy()
        sd = np.sqrt(values.var(axis=(0, 2, 3)) + 1e-5)  # the mean is in it
        expected = values / sd[:, None, None] * layer.gain.detach().double().numpy()[:, None, None]
        np.testing.assert_allclose(layer(x).detach().double().numpy(), expected, rtol=rtol)  # and is not subtracted
        running = 0.9 * running + 0.1 * sd
        np.testing.assert_allclose(layer.running_sd.double().numpy(), running, rtol=rtol)
    frozen = values / running[:, None, None] * layer.gain.detach().double().numpy()[:, None, None]
    np.testing.assert_allclose(layer.eval()(x).detach().double().numpy(), frozen, rtol=rtol)
    np.testing.assert_allclose(layer.running_sd.double().numpy(), running, rtol=rtol)  # evaluation leaves it


def test_batch_norm_is_differentiated_through_its_statistics():
    layer = BiasFreeBatchNorm(2).double().train()
    x, weights = noisy(3, 2, 4, 4).requires_grad_(), noisy(3, 2, 4, 4, seed=2)
    (gradient,) = torch.autograd.grad((layer(x) * weights).sum(), x)
    centred = x - x.mean((0, 2, 3), keepdim=True)
    sd = (centred.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
    (expected,) = torch.autograd.grad((x / sd * weights).sum(), x)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)


def test_batch_norm_has_first_and_second_derivatives():
    layer = BiasFreeBatchNorm(2).double().train()
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(layer, noisy(3, 2, 2, 2).requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_bfcnn_trains_in_the_precision_of_its_weights(dtype):
    net = BFCNN(4, 8).to(dtype).train()
    denoised = net(noisy(2, 1, 8, 8).to(dtype))
    denoised.square().sum().backward()
    assert {denoised.dtype, *(p.grad.dtype for p in net.parameters())} == {dtype}


@pytest.mark.parametrize("options", VARIANTS)
def test_bfcnn_in_training_is_its_layers_one_after_another(options):
    """To rounding: output, gradients and running values, with gains of both signs."""
    net = small_bfcnn(**options).train()
    norms = [layer for layer in net.modules() if isinstance(layer, BiasFreeBatchNorm)]
    for layer in norms:
        layer.gain.data[::2] *= -1
    other, y, weights = copy.deepcopy(net), noisy(3, 1, 9, 7), noisy(3, 1, 9, 7, seed=2)
    ours, plain = net(y), y - other.noise(y)
    (ours * weights).sum().backward(), (plain * weights).sum().backward()
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-12)
    before = small_bfcnn(**options).buffers()
    for a, b, was in zip(net.buffers(), other.buffers(), before, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        assert (a - was).abs().max() > 1e-3


def test_a_gain_of_zero_learns():
    """Its channel is silent, and not lost."""
    net = small_bfcnn().train()
    norm = next(layer for layer in net.modules() if isinstance(layer, BiasFreeBatchNorm))
    norm.gain.data[3] = 0
    net(noisy(3, 1, 9, 7)).square().sum().backward()
    assert norm.gain.grad[3] != 0


@pytest.mark.parametrize("build", [small_bfcnn, small_unet, small_resunet])
def test_the_seed_decides_the_weights(build):
    first, second, other = (list(build(seed=seed).parameters()) for seed in (7, 7, 8))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True) if a.ndim == 4)


def test_weights_start_kaiming_normal():
    weight = next(w for w in BFCNN(3, 64).parameters() if w.shape == (64, 64, 3, 3)).detach()
    sd = (2 / (64 * 9)) ** 0.5  # fan-in
    standard_error = sd / (2 * weight.numel()) ** 0.5
    assert abs(float(weight.std()) - sd) < 4 * standard_error
    assert abs(float(weight.mean())) < 4 * sd / weight.numel() ** 0.5


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float64])
def test_evaluating_leaves_a_network_as_it_was_after_an_exception(dtype):
    net = BFCNN(4, 4).train()
    net.noise[3].eval()
    net.noise[0].weight.requires_grad_(False)
    modes, weights = [m.training for m in net.modules()], [p.clone() for p in net.parameters()]
    with pytest.raises(KeyError), evaluating(net, dtype) as f:
        assert not any(m.training for m in f.modules())
        assert not any(p.requires_grad for p in f.parameters())
        assert {p.dtype for p in f.parameters()} == {dtype or torch.float32}
        raise KeyError("inside")
    assert [m.training for m in net.modules()] == modes
    assert [p.requires_grad for p in net.parameters()] == [False] + [True] * (len(weights) - 1)
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(weights, net.parameters(), strict=True))


def test_evaluating_copies_only_for_another_dtype():
    net, y = small_bfcnn().float(), noisy(1, 1, 6, 6)
    with evaluating(net, torch.float32) as f:
        assert f is net
    with evaluating(net, torch.float64) as f:
        assert f is not net
        assert {b.dtype for b in f.buffers()} == {torch.float64}
        double = f(y)
    torch.testing.assert_close(double.float(), net(y.float()).detach(), rtol=1e-4, atol=1e-5)  # float32 rounding


def test_evaluating_calls_functions_as_they_are():
    y = torch.rand(2, 1, 4, 4)
    with evaluating(lambda y: y / 2) as f:
        assert torch.equal(f(y), y / 2)
    with pytest.raises(TypeError, match=r"denoiser.*int"), evaluating(3):
        pass


def read(place, name):
    """A setting of torch, or "mixed" where torch refuses to read it."""
    try:
        return getattr(place, name)
    except RuntimeError:
        return "mixed"


def precision():
    """All that decides how float32 products are rounded, in both of torch's interfaces."""
    b = torch.backends
    newer = [place.fp32_precision for place in (b, b.cudnn, b.cudnn.conv, b.cuda.matmul, b.mkldnn.matmul)]
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:
        older = "mixed"
    return [*newer, older, read(b.cuda.matmul, "allow_tf32"), read(b.cudnn, "allow_tf32")]


def reset_precision():
    b = torch.backends
    b.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    b.cudnn.allow_tf32 = True
    b.cuda.matmul.fp32_precision = b.mkldnn.matmul.fp32_precision = "none"


@pytest.fixture
def default_precision():
    reset_precision()
    yield
    reset_precision()


@pytest.mark.usefixtures("default_precision")
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(
    "setting",
    [
        lambda b: None,
        lambda b: torch.set_float32_matmul_precision("high"),
        lambda b: torch.set_float32_matmul_precision("medium"),
        lambda b: setattr(b.cuda.matmul, "allow_tf32", True),
        lambda b: setattr(b.cuda.matmul, "fp32_precision", "tf32"),
        lambda b: setattr(b.cudnn.conv, "fp32_precision", "ieee"),
        lambda b: setattr(b, "fp32_precision", "tf32"),
        lambda b: setattr(b, "fp32_precision", "ieee"),
    ],
)
def test_evaluating_switches_tf32_off_and_restores_the_settings(setting, fails):
    """For convolutions and matrix products, whichever interface of torch switched it on."""
    setting(torch.backends)
    before = precision()
    try:
        with evaluating(lambda y: y) as f:
            f(torch.zeros(1, 1, 2, 2))
            inside = precision()
            if fails:
                raise KeyError("inside")
    except KeyError:
        assert fails
    assert inside[2:5] == ["ieee", "ieee", "ieee"]
    assert not {"high", "medium"} & set(inside)
    assert precision() == before
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (False, False)
