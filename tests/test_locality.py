"""The local score machine against loops over pixels, patches and images, and at its two ends."""

import numpy as np
import pytest
import torch

import gahb
from gahb import optimal

SHAPE = (2, 5, 6)


def images(n, seed, shape=SHAPE, dtype=torch.float64):
    return torch.from_numpy(np.random.default_rng(seed).random((n, *shape))).to(dtype)


def noisy(n, seed, sigma, shape=SHAPE):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.random((n, *shape)) + sigma * rng.standard_normal((n, *shape)))


def average(values, logits):
    """Softmax average in numpy's longest floats."""
    weights = np.exp(np.array(logits) - max(logits))
    return (weights / weights.sum()) @ np.array(values)


def seen(image, i, j, radius):
    """The patch around a pixel as far as it lies in the image, and how much of it each border cuts off."""
    height, width = image.shape[1:]
    cut = [max(0, beyond) for beyond in (radius - i, i + radius - height + 1, radius - j, j + radius - width + 1)]
    return image[:, max(i - radius, 0) : i + radius + 1, max(j - radius, 0) : j + radius + 1], cut


def plain_local(y, train, sigma, patch, equivariant):
    """Posterior mean of each pixel by loops: over all patches of the training set that the border cuts alike."""
    y, train = (x.numpy().astype(np.longdouble) for x in (y, train))
    result, (height, width) = np.empty(y.shape), y.shape[2:]
    everywhere = [(k, m) for k in range(height) for m in range(width)]
    for b, one in enumerate(y):
        for i, j in everywhere:
            own, cut = seen(one, i, j, patch // 2)
            values, logits = [], []
            for x in train:
                for k, m in everywhere if equivariant else [(i, j)]:
                    other, other_cut = seen(x, k, m, patch // 2)
                    if other_cut == cut:
                        values.append(x[:, k, m])
                        logits.append(-((own - other) ** 2).sum() / (2 * np.longdouble(sigma) ** 2))
            result[b, :, i, j] = average(values, logits)
    return result


@pytest.mark.parametrize("equivariant", [False, True])
@pytest.mark.parametrize("sigma", [0.01, 0.2, 2.0])
@pytest.mark.parametrize("patch", [3, 5])
def test_loops_over_pixels_patches_and_images(patch, sigma, equivariant):
    """Also a patch of 5 in an image of 5x6, which each pixel of the middle row alone sees whole in height."""
    train, y = images(6, 0), noisy(2, 1, 0.1)
    found = optimal.local(train, sigma, patch, equivariant)(y)
    np.testing.assert_allclose(found, plain_local(y, train, sigma, patch, equivariant), rtol=0, atol=1e-11)


def test_the_two_kinds_differ():
    train, y = images(6, 0), noisy(2, 1, 0.1)
    same_place, everywhere = (optimal.local(train, 0.3, 3, kind)(y) for kind in (False, True))
    assert float((same_place - everywhere).abs().mean()) > 0.01


@pytest.mark.parametrize("equivariant", [False, True])
@pytest.mark.parametrize("patch", [11, 99])
@pytest.mark.parametrize("sigma", [0.01, 0.3])
def test_a_patch_that_sees_the_whole_image_is_the_empirical_optimum(sigma, patch, equivariant):
    """11 = 2 * 6 - 1 from every corner; no two places see the image cut off alike."""
    train, y = images(30, 0), noisy(4, 1, 0.3)
    found = optimal.local(train, sigma, patch, equivariant)(y)
    torch.testing.assert_close(found, optimal.empirical(train, sigma)(y), rtol=0, atol=1e-11)
    smaller = optimal.local(train, sigma, 9, equivariant)(y)
    assert float((smaller - found).abs().max()) > 1e-3


@pytest.mark.parametrize("equivariant", [False, True])
@pytest.mark.parametrize("sigma", [0.01, 0.3])
def test_a_patch_of_a_pixel_is_the_posterior_mean_of_a_scalar(sigma, equivariant):
    shape = (1, 4, 3)
    train, y = images(20, 0, shape), noisy(3, 1, 0.3, shape)
    found = optimal.local(train, sigma, 1, equivariant)(y)
    for index in np.ndindex(*y.shape):
        values = train.flatten().numpy() if equivariant else train.numpy()[:, *index[1:]]
        truth = average(values, (-((float(y[index]) - values) ** 2) / (2 * sigma**2)).astype(np.longdouble))
        assert float(found[index]) == pytest.approx(float(truth), abs=1e-12)


def test_the_equivariant_kind_moves_with_the_image():
    """Pixels whose patch is whole before and after the move; the other kind does not move."""
    shape, (down, right), r = (1, 12, 13), (2, 3), 2
    train, y = images(15, 0, shape), noisy(2, 1, 0.2, shape)
    moved = torch.roll(y, (down, right), (2, 3))
    distance = []
    for equivariant in (True, False):
        f = optimal.local(train, 0.2, 2 * r + 1, equivariant)
        before = f(y)[:, :, r : -r - down, r : -r - right]
        after = f(moved)[:, :, r + down : -r, r + right : -r]
        assert before.shape == after.shape == (2, 1, 12 - 2 * r - down, 13 - 2 * r - right)
        distance.append(float((before - after).abs().max()))
    assert distance[0] < 1e-13
    assert distance[1] > 0.1


@pytest.mark.parametrize("equivariant", [False, True])
def test_limits_of_the_noise(equivariant):
    """No noise: the pixel of the nearest patch. All noise: the mean over the patches that are compared."""
    shape, patch = (1, 5, 5), 3
    train, y = images(20, 0, shape), noisy(3, 1, 0.3, shape)
    least = optimal.local(train, 1e-4, patch, equivariant)(y)
    most = optimal.local(train, 1e5, patch, equivariant)(y)
    x = train.numpy()[:, 0]
    for b, one in enumerate(y.numpy()[:, 0]):
        for i, j in [(1, 1), (2, 3), (3, 2)]:
            places = [(k, m) for k in (1, 2, 3) for m in (1, 2, 3)] if equivariant else [(i, j)]
            patches = np.concatenate([x[:, k - 1 : k + 2, m - 1 : m + 2] for k, m in places])
            own = one[i - 1 : i + 2, j - 1 : j + 2]
            nearest = patches[((patches - own) ** 2).sum((1, 2)).argmin()]
            assert float(least[b, 0, i, j]) == pytest.approx(nearest[1, 1], abs=1e-12)
            assert float(most[b, 0, i, j]) == pytest.approx(patches[:, 1, 1].mean(), abs=1e-9)


@pytest.mark.parametrize("equivariant", [False, True])
def test_small_noise_far_from_every_patch(equivariant):
    """Images of the set are found again; 500 standard deviations of the noise away it is still the softmax."""
    shape, sigma = (1, 8, 8), 0.01
    train = images(100 if equivariant else 2000, 0, shape, torch.float32)
    y = torch.cat([train[:3], images(2, 1, shape, torch.float32) + 5])
    found = optimal.local(train, sigma, 5, equivariant)(y)
    torch.testing.assert_close(found[:3], train[:3], rtol=0, atol=2e-7)
    x, places = train[:, 0].numpy().astype(np.longdouble), [(3, 4)]
    if equivariant:
        places = [(k, m) for k in range(2, 6) for m in range(2, 6)]
    patches = np.concatenate([x[:, k - 2 : k + 3, m - 2 : m + 3] for k, m in places])
    for one, result in zip(y[3:, 0].numpy().astype(np.longdouble), found[3:, 0], strict=True):
        logits = -((patches - one[1:6, 2:7]) ** 2).sum((1, 2)) / (2 * sigma**2)
        assert float(result[3, 4]) == pytest.approx(float(average(patches[:, 2, 2], logits)), abs=2e-7)


@pytest.mark.parametrize("equivariant", [False, True])
@pytest.mark.parametrize("block", [1, 7, 13, 10_000])
def test_blocks_change_nothing(block, equivariant):
    train, y = images(9, 0), noisy(3, 1, 0.1)
    found = optimal.local(train, 0.1, 3, equivariant, block)(y)
    torch.testing.assert_close(found, optimal.local(train, 0.1, 3, equivariant)(y), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("shape", "equivariant", "block", "largest"),
    [((1, 4, 4), False, 20, 20), ((1, 8, 8), True, 80, 80), ((1, 8, 8), True, 1, 36)],  # 36 whole patches an image
)
def test_memory_is_that_of_blocks(shape, equivariant, block, largest, monkeypatch):
    """No matrix of patches of y by patches of the set is larger than two blocks, whatever B and N."""
    shapes, addmm = [], torch.addmm
    monkeypatch.setattr(torch, "addmm", lambda *given: shapes.append(addmm(*given).shape) or addmm(*given))
    optimal.local(images(45, 0, shape), 0.1, 3, equivariant, block)(noisy(45, 1, 0.1, shape))
    assert 0.9 * largest < max(max(shape) for shape in shapes) <= largest


@pytest.mark.parametrize("equivariant", [False, True])
@pytest.mark.parametrize("sigma", [0.05, 0.3])
def test_the_jacobian_is_that_of_differences_and_of_a_plain_graph(equivariant, sigma):
    """Each row is zero outside the patch; the whole is not symmetric; top pairs by products are those of the whole."""
    shape = (1, 5, 5)
    train, y, step = images(12, 0, shape), noisy(1, 1, 0.1, shape)[0], 1e-6
    f = optimal.local(train, sigma, 3, equivariant)
    units = torch.eye(25, dtype=torch.float64).view(25, *shape)
    truth = ((f(y + step * units) - f(y - step * units)) / (2 * step)).flatten(1).T
    found = gahb.jacobian(f, y)
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-6)
    assert float(found.norm()) > 0.1
    i, j = np.divmod(np.arange(25), 5)
    outside = np.maximum(abs(i[:, None] - i), abs(j[:, None] - j)) > 1
    assert float(found[torch.from_numpy(outside)].abs().max()) == 0.0
    assert float((found - found.T).norm()) > 0.01
    top, whole = gahb.adaptive_basis(f, y, k=3), gahb.adaptive_basis(f, y)
    torch.testing.assert_close(top.shrinkage, whole.shrinkage[:3], rtol=1e-4, atol=0)


def test_the_jacobian_of_several_channels_is_the_posterior_covariance():
    """Of a patch that sees the whole image; the gradient of a batch is that of each image alone."""
    train, y, sigma = images(12, 0), noisy(3, 1, 0.1), 0.4
    f = optimal.local(train, sigma, 11)
    torch.testing.assert_close(
        gahb.jacobian(f, y[0]), gahb.jacobian(optimal.empirical(train, sigma), y[0]), rtol=0, atol=1e-11
    )
    leaf = y.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(leaf).square().sum(), leaf)
    for one, row in zip(y, gradient, strict=True):
        truth = 2 * gahb.jacobian(f, one).T @ f(one[None]).flatten()
        torch.testing.assert_close(row.flatten(), truth, rtol=0, atol=1e-11)


def test_a_second_derivative_is_refused():
    f, y = optimal.local(images(5, 0), 0.3, 3), noisy(1, 1, 0.1).requires_grad_()
    (gradient,) = torch.autograd.grad(f(y).sum(), y, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.autograd.grad(gradient.sum(), y)


def test_no_other_map_of_the_patch_has_a_smaller_error():
    """Over draws of its own set, 2 standard errors apart: other noise levels, a smaller patch, the equivariant kind.

    A larger patch knows more and does better.
    """
    train, sigma, n, rng = images(8, 0, (1, 5, 5)), 0.5, 3000, np.random.default_rng(1)
    clean = train[torch.from_numpy(rng.integers(0, 8, n))]
    y = clean + sigma * torch.from_numpy(rng.standard_normal(clean.shape))

    def errors(f):
        return (f(y) - clean).square().mean((1, 2, 3))

    own = errors(optimal.local(train, sigma, 3))
    others = [optimal.local(train, s, 3) for s in (sigma / 1.5, sigma * 1.5)]
    others += [optimal.local(train, sigma, 1), optimal.local(train, sigma, 3, True)]
    for other in others:
        gap = errors(other) - own
        assert float(gap.mean()) > 2 * float(gap.std()) / n**0.5
    gap = own - errors(optimal.local(train, sigma, 5))
    assert float(gap.mean()) > 2 * float(gap.std()) / n**0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("of_train", [torch.float16, torch.float32])
def test_the_dtype_of_y_is_kept(dtype, of_train):
    train, y = images(9, 0, dtype=of_train), noisy(2, 1, 0.1).to(dtype)
    found = optimal.local(train, 0.2, 3)(y)
    assert found.dtype == dtype
    truth = plain_local(y.double(), train.double(), 0.2, 3, False)
    np.testing.assert_allclose(found.double(), truth, rtol=0, atol=2 * torch.finfo(dtype).eps)


def test_images_of_a_batch_are_treated_alone():
    train, y = images(9, 0), noisy(5, 1, 0.2)
    f = optimal.local(train, 0.2, 3, True, block=20)
    torch.testing.assert_close(f(y), torch.cat([f(one[None]) for one in y]), rtol=0, atol=1e-13)
