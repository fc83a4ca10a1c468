"""Adaptive bases, whole and from products, against numpy on the row-by-row Jacobian."""

import numpy as np
import pytest
import torch
from helpers import (
    NETWORKS,
    case,
    draw,
    empirical,
    gaussian,
    mixture,
    network,
    nothing,
    ray,
    row_by_row,
    subspace,
    unchanged,
)

from gahb import UNet, adaptive_basis, jacobian, optimal


def numpy_basis(matrix):
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return values[::-1], vectors.T[::-1]


@pytest.mark.parametrize("which", [*NETWORKS, empirical, gaussian, mixture])
def test_full_basis_is_numpys_of_the_symmetric_part(which):
    f, y = case(which)
    matrix = row_by_row(f, y).numpy()
    basis = adaptive_basis(f, y)
    values, vectors = numpy_basis(matrix)
    np.testing.assert_allclose(basis.shrinkage, values, atol=1e-12 * values[0])
    found = basis.vectors.flatten(1).numpy()
    np.testing.assert_allclose(found @ found.T, np.eye(len(values)), atol=1e-12)
    # Near-equal eigenvalues (1e-5) leave their vectors free: the matrix that they rebuild is compared.
    rebuilt = (found.T * values) @ found
    np.testing.assert_allclose(rebuilt, (matrix + matrix.T) / 2, atol=1e-4 * values[0])
    alone = np.flatnonzero((np.diff(values, prepend=np.inf) < -1e-3) & (np.diff(values, append=-np.inf) < -1e-3))
    assert len(alone) > 5
    np.testing.assert_allclose(np.abs((found * vectors).sum(1))[alone], 1, atol=1e-9)
    asymmetry = np.linalg.norm(matrix - matrix.T) / np.linalg.norm(matrix)
    assert basis.asymmetry == pytest.approx(asymmetry, rel=1e-9, abs=1e-12)
    if isinstance(which, str):
        assert asymmetry > 0.1
    else:
        assert asymmetry < 1e-12  # a covariance


@pytest.mark.parametrize(
    ("which", "k"),
    [
        ("BFCNN", 8),
        ("UNet", 5),
        ("UNet of a size that 4 does not divide", 20),
        ("UNet, 3 channels", 10),
        (gaussian, 6),
        (empirical, 4),
        (mixture, 3),
        (ray, 2),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_leading_pairs_are_those_of_the_whole_matrix(which, k, dtype):
    f, y = case(which)
    values, vectors = numpy_basis(row_by_row(f, y).numpy())
    basis = adaptive_basis(f, y.to(dtype), k=k)
    assert basis.shrinkage.dtype == basis.vectors.dtype == dtype
    assert len(basis.shrinkage) == len(basis.vectors) == k
    np.testing.assert_allclose(basis.shrinkage, values[:k], rtol=1e-3, atol=1e-6 * values[0])
    found = basis.vectors.flatten(1).double().numpy()
    gaps = [i for i in range(1, k + 1) if values[i - 1] - values[i] > 1e-2 * values[0]]
    assert gaps
    for i in gaps:
        cosines = np.linalg.svd(found[:i] @ vectors[:i].T, compute_uv=False)
        assert cosines.min() > 0.999


@pytest.mark.parametrize("wrong", [0, 9])
@pytest.mark.parametrize("kind", ["symmetric", "singular"])
def test_one_wrong_pair_among_the_leading_ones_is_noticed(monkeypatch, wrong, kind):
    """One eigenvector turned by 0.1: a residual of 0.1 times a distance between eigenvalues."""
    from scipy.sparse import linalg

    eigsh = linalg.eigsh

    def turned(*arguments, **settings):
        values, vectors = eigsh(*arguments, **settings)
        vectors[:, wrong] += 0.1 * vectors[:, 9 - wrong]
        return values, vectors

    monkeypatch.setattr(linalg, "eigsh", turned)
    y = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(1))
    with pytest.raises(RuntimeError, match="the top 10 pairs did not converge: residual"):
        adaptive_basis(UNet(channels=8), y, k=10, kind=kind)


def test_asymmetry_of_leading_pairs_is_an_estimate_of_the_whole():
    f, y = network("BFCNN")
    matrix = row_by_row(f, y).numpy()
    difference = matrix - matrix.T
    exact = np.linalg.norm(difference) / np.linalg.norm(matrix)

    def relative_variance(a):  # of norm(a v)^2 over its mean norm(a)^2, for one normal v
        return 2 * np.linalg.norm(a.T @ a) ** 2 / np.linalg.norm(a) ** 4

    # The ratio of the norms: half the relative error of the squares, whose covariance is left out.
    error = 0.5 * np.sqrt((relative_variance(difference) + relative_variance(matrix)) / 256) * exact
    assert adaptive_basis(f, y, k=2, probes=256).asymmetry == pytest.approx(exact, abs=4 * error)
    assert adaptive_basis(gaussian()[0], gaussian()[1], k=2).asymmetry < 1e-12


@pytest.mark.parametrize("which", NETWORKS)
def test_singular_expansion_of_a_network_is_the_network(which):
    """Its terms are those of numpy's SVD, and sum to f(y); those of the eigenvectors lack the antisymmetric part."""
    f, y = network(which)
    matrix, output = row_by_row(f, y).numpy(), f(y).detach().flatten().numpy()
    basis = adaptive_basis(f, y, kind="singular")
    values = np.linalg.svd(matrix, compute_uv=False)
    np.testing.assert_allclose(basis.shrinkage, values, rtol=0, atol=1e-12 * values[0])
    left, right = basis.left.flatten(1).numpy(), basis.vectors.flatten(1).numpy()
    for vectors in (left, right):
        np.testing.assert_allclose(vectors @ vectors.T, np.eye(len(values)), rtol=0, atol=1e-12)
    np.testing.assert_allclose((left.T * values) @ right, matrix, rtol=0, atol=1e-12 * values[0])
    np.testing.assert_allclose(basis.alignment, (left * right).sum(1), rtol=0, atol=1e-14)
    sums, scale = basis.partial_sums(y).numpy(), np.abs(output).max()
    np.testing.assert_allclose(sums[-1], output, rtol=0, atol=1e-10 * scale)
    np.testing.assert_allclose(sums[2], (left[:3].T * values[:3]) @ right[:3] @ y.flatten().numpy(), atol=1e-11 * scale)
    left_out = output - (matrix + matrix.T) / 2 @ y.flatten().numpy()
    expansion = adaptive_basis(f, y).partial_sums(y)[-1].numpy()
    np.testing.assert_allclose(output - expansion, left_out, rtol=0, atol=1e-10 * scale)
    assert np.linalg.norm(left_out) > 0.01 * np.linalg.norm(output)


@pytest.mark.parametrize(
    ("which", "k"), [("BFCNN", 8), ("UNet, 3 channels", 10), (gaussian, 6), (ray, 2), (nothing, 3), (unchanged, 4)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_leading_singular_triples_are_those_of_the_whole_matrix(which, k, dtype):
    f, y = case(which)
    matrix = row_by_row(f, y).numpy()
    u, values, vt = np.linalg.svd(matrix)
    basis = adaptive_basis(f, y.to(dtype), k=k, kind="singular")
    assert len(basis.shrinkage) == len(basis.vectors) == len(basis.left) == k
    assert basis.left.dtype == basis.vectors.dtype == dtype
    scale = max(values[0], 1)
    np.testing.assert_allclose(basis.shrinkage, values[:k], rtol=0, atol=1e-5 * scale)
    left, right = (v.flatten(1).double().numpy() for v in (basis.left, basis.vectors))
    for vectors in (left, right):
        np.testing.assert_allclose(vectors @ vectors.T, np.eye(k), rtol=0, atol=1e-5)
    np.testing.assert_allclose(right @ matrix.T, basis.shrinkage.double().numpy()[:, None] * left, atol=1e-5 * scale)
    for i in [i for i in range(1, k + 1) if values[i - 1] - values[i] > 1e-2 * scale]:
        assert np.linalg.svd(right[:i] @ vt[:i].T, compute_uv=False).min() > 0.999
        assert np.linalg.svd(left[:i] @ u[:, :i], compute_uv=False).min() > 0.999


@pytest.mark.parametrize("k", [None, 5])
@pytest.mark.parametrize("prior", [empirical, gaussian, mixture])
def test_left_and_right_vectors_of_a_symmetric_denoiser_are_one(prior, k):
    f, y = case(prior)
    singular, symmetric = (adaptive_basis(f, y, k=k, kind=kind) for kind in ("singular", "symmetric"))
    seen = singular.shrinkage > 1e-6  # of values that are 0 the vectors are free
    assert int(seen.sum()) >= 3
    np.testing.assert_allclose(singular.alignment[seen], 1, rtol=0, atol=1e-6)
    np.testing.assert_allclose(symmetric.alignment, 1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(singular.shrinkage, symmetric.shrinkage, rtol=0, atol=1e-6)
    assert symmetric.left is None


def test_alignment_of_a_rotation_and_a_reflection():
    """Turns the first two pixels by 0.4, negates the third, keeps the others, each with a gain of its own."""
    gains = np.array([3.0, 2.5, 2, 1.5, 1, 0.5])
    turn = np.eye(6)
    turn[:2, :2] = [[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]]
    turn[2, 2] = -1
    matrix = torch.from_numpy(turn @ np.diag(gains))
    y = draw(1, 1, 2, 3)
    basis = adaptive_basis(lambda y: (y.flatten(1) @ matrix.T).view(y.shape), y, kind="singular")
    np.testing.assert_allclose(basis.shrinkage, gains, rtol=0, atol=1e-12)
    np.testing.assert_allclose(basis.alignment, [np.cos(0.4), np.cos(0.4), -1, 1, 1, 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["symmetric", "singular"])
@pytest.mark.parametrize("which", ["BFCNN", "UNet", subspace, ray, nothing, unchanged])
@pytest.mark.parametrize("k", [None, 3, 5])
def test_two_runs_give_the_same_basis(which, k, kind):
    f, y = case(which)
    first, second = (adaptive_basis(f, y, k=k, kind=kind) for _ in range(2))
    assert torch.equal(first.vectors, second.vectors)
    assert torch.equal(first.shrinkage, second.shrinkage)
    flat = first.vectors.flatten(1)
    largest = flat.gather(1, flat.abs().argmax(1, keepdim=True))
    assert bool((largest > 0).all())


@pytest.mark.parametrize("k", [None, 6])
def test_equal_eigenvalues_give_the_same_pictures_however_the_space_is_written(k):
    """J is the same projector, of eigenvalues 1 (6 times) and 0; only its rounding differs."""
    vectors, y = draw(6, 1, 4, 5), draw(1, 1, 4, 5, seed=1)
    turned = torch.einsum("ij,j...->i...", draw(6, 6, seed=3), vectors)
    first, second = (adaptive_basis(optimal.subspace(v), y, k=k) for v in (vectors, turned))
    count = 20 if k is None else k
    np.testing.assert_allclose(first.shrinkage, np.r_[np.ones(6), np.zeros(14)][:count], atol=1e-12)
    np.testing.assert_allclose(first.vectors, second.vectors, atol=1e-8)  # rounding over the ramp's gaps
    b = vectors.flatten(1).numpy().T
    spanned = first.vectors[:6].flatten(1).numpy()
    np.testing.assert_allclose(spanned.T @ spanned, b @ np.linalg.solve(b.T @ b, b.T), atol=1e-10)


@pytest.mark.parametrize("k", [None, 10])
def test_a_long_chain_of_close_eigenvalues_is_not_rotated_as_one(k):
    """Gaps of 0.8e-5, each below the tolerance of 1e-5: only vectors within 1e-5 of each other may be mixed."""
    values, d = 1 - 0.8e-5 * np.arange(36), 36
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(d, d)))
    matrix = torch.from_numpy(q @ np.diag(values) @ q.T)

    def f(y):
        return (y.flatten(1) @ matrix.T).view(y.shape)

    basis = adaptive_basis(f, draw(1, 1, 6, 6), k=k)
    found = basis.vectors.flatten(1).numpy()
    residuals = np.linalg.norm(found @ matrix.numpy() - basis.shrinkage.numpy()[:, None] * found, axis=1)
    assert residuals.max() < 1.1e-5


@pytest.mark.parametrize("k", [1, 4, 7, 9])
def test_leading_pairs_find_every_copy_of_an_equal_eigenvalue(k):
    f, y = optimal.subspace(draw(5, 1, 5, 6)), draw(1, 1, 5, 6, seed=1)
    np.testing.assert_allclose(adaptive_basis(f, y, k=k).shrinkage, ([1] * 5 + [0] * 5)[:k], atol=1e-10)


@pytest.mark.parametrize("k", [None, 1, 2, 6])
@pytest.mark.parametrize(("denoiser", "value"), [(nothing, 0), (unchanged, 1)])
def test_basis_of_a_denoiser_that_gives_nothing_or_everything(denoiser, value, k):
    f, y, matrix = denoiser()
    np.testing.assert_array_equal(jacobian(f, y), matrix)
    basis = adaptive_basis(f, y, k=k)
    np.testing.assert_allclose(basis.shrinkage, np.full(k or 20, value), atol=1e-14)
    flat = basis.vectors.flatten(1).numpy()
    np.testing.assert_allclose(flat @ flat.T, np.eye(len(flat)), atol=1e-12)
    assert basis.asymmetry == 0


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 2), (1, 1, 3), (1, 2, 2)])
def test_leading_pairs_of_the_smallest_images(shape):
    """d = 1 to 4, where a Krylov space has no room."""
    d = int(np.prod(shape))
    cov = np.diag(np.arange(d, 0, -1.0))
    f, y = optimal.gaussian(torch.zeros(shape), torch.from_numpy(cov), 1.0), draw(1, *shape)
    for k in range(1, d + 1):
        basis = adaptive_basis(f, y, k=k)
        np.testing.assert_allclose(basis.shrinkage, (np.diag(cov) / (np.diag(cov) + 1))[:k], atol=1e-12)
        np.testing.assert_allclose(basis.vectors.flatten(1), np.eye(d)[:k], atol=1e-6)


@pytest.mark.parametrize("k", [None, 4])
def test_vectors_have_the_shape_of_the_image(k):
    gray, colour = network("BFCNN"), network("UNet, 3 channels")
    assert adaptive_basis(*gray, k=k).vectors.shape == (k or 64, 8, 8)
    assert adaptive_basis(*colour, k=k).vectors.shape == (k or 60, 3, 5, 4)
    assert torch.equal(adaptive_basis(colour[0], colour[1][0], k=k).vectors, adaptive_basis(*colour, k=k).vectors)


@pytest.mark.parametrize("k", [None, 3])
def test_a_function_around_a_network_has_the_basis_of_the_network(k):
    """It is differentiated as any other denoiser, though its parameters require a gradient."""
    net, y = network("BFCNN")
    values, _ = numpy_basis(row_by_row(net, y).numpy())
    np.testing.assert_allclose(adaptive_basis(lambda y: net(y), y, k=k).shrinkage, values[:k], rtol=1e-3, atol=1e-9)
