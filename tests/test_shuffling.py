"""Shuffled images against the definition of a permutation and pinned values."""

import numpy as np
import pytest
import torch

from gahb.datasets import permutation, shuffled, unshuffled


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
