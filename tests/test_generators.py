"""What all generators keep to, and permutations of pixels.

Image i is the same whatever n and the number of threads, and no global random state is read or changed.
"""

import random

import numpy as np
import pytest
import torch

from gahb.datasets import (
    backgrounds,
    c_alpha,
    contours,
    disk_parameters,
    disk_tangents,
    disks,
    geometric,
    manifolds,
    permutation,
    ray,
    scaled_image,
    shuffled,
    sinusoid_tangents,
    sinusoids,
    unshuffled,
)

IMAGE = torch.linspace(0.1, 1, 144).view(1, 12, 12)
GENERATORS = {
    "c_alpha": lambda n, seed: c_alpha(n, 12, 2.0, seed=seed),
    "c_alpha of other backgrounds": lambda n, seed: c_alpha(n, 32, 1.5, 8.0, seed),
    "contours": lambda n, seed: contours(n, 12, 2.0, seed),
    "backgrounds": lambda n, seed: backgrounds(n, 12, 2.0, seed),
    "ray": lambda n, seed: ray(n, 12, seed),
    "disks": lambda n, seed: disks(n, 12, seed),
    "disk_parameters": lambda n, seed: disk_parameters(n, 12, seed),
    "disk_tangents": lambda n, seed: disk_tangents(n, 12, seed),
    "sinusoids": lambda n, seed: sinusoids(n, 12, seed),
    "sinusoid_tangents": lambda n, seed: sinusoid_tangents(n, 12, seed),
    "scaled_image": lambda n, seed: scaled_image(IMAGE, n, seed),
}
BLOCK = geometric.BLOCK


def random_states():
    return random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()


@pytest.mark.parametrize("name", GENERATORS)
def test_image_i_depends_neither_on_n_nor_on_global_random_states(name):
    draw, before = GENERATORS[name], random_states()
    full = draw(2 * BLOCK + 3, 0)
    assert random_states() == before and manifolds.BLOCK == BLOCK
    torch.rand(3)
    for n in (1, 7, BLOCK, BLOCK + 1, 2 * BLOCK):
        assert torch.equal(draw(n, 0), full[:n])
    assert not torch.equal(draw(1, 1), full[:1])


@pytest.mark.parametrize("n", [1, 300])
@pytest.mark.parametrize("name", GENERATORS)
def test_bits_do_not_depend_on_the_number_of_threads(name, n):
    """A training that resumes with other threads has the same images."""
    threads, drawn = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            drawn.append(GENERATORS[name](n, 4))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])


def images(n=3, channels=2, height=5, width=7):
    return torch.arange(n * channels * height * width, dtype=torch.float32).view(n, channels, height, width)


def test_the_permutation_is_the_same_on_every_machine_and_another_for_another_seed():
    assert permutation(16, seed=0).tolist() == [1, 6, 8, 9, 13, 4, 2, 14, 10, 7, 15, 11, 3, 0, 5, 12]
    assert permutation(16, seed=1).tolist() != permutation(16, seed=0).tolist()


@pytest.mark.parametrize("d", [1, 2, 1600])
def test_every_pixel_occurs_once(d):
    assert sorted(permutation(d, seed=3).tolist()) == list(range(d))


def test_pixel_i_comes_from_place_i_of_the_permutation():
    x, order = images(), permutation(35, seed=4).tolist()
    moved = shuffled(x, seed=4).numpy().reshape(3, 2, 35)
    for i, source in enumerate(order):
        assert np.array_equal(moved[:, :, i], x.numpy().reshape(3, 2, 35)[:, :, source])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8])
def test_the_inverse_restores(dtype):
    x = images().to(dtype)
    moved = shuffled(x, seed=5)
    assert moved.dtype == dtype and moved.shape == x.shape
    assert not torch.equal(moved, x)
    assert torch.equal(unshuffled(moved, seed=5), x)
    assert torch.equal(shuffled(unshuffled(x, seed=5), seed=5), x)
