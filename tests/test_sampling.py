"""Algorithm 1 against the linear recursion that it is for a linear denoiser."""

import numpy as np
import pytest
import torch

import gahb
from gahb import optimal

SHAPE = (1, 3, 3)
D = 9


def wiener(seed=0, sigma=0.5):
    """A Gaussian prior's denoiser, and its matrix and fixed point in numpy."""
    rng = np.random.default_rng(seed)
    root, mean = rng.standard_normal((D, D)) / 3, rng.random(D)
    cov = root @ root.T
    f = optimal.gaussian(torch.from_numpy(mean).view(SHAPE), torch.from_numpy(cov), sigma)
    return f, cov @ np.linalg.inv(cov + sigma**2 * np.eye(D)), mean


def recursion(x, matrix, mean, step_size, sigma_end):
    """Algorithm 1 for one flat image and f(x) = m + A (x - m); the noise level of each step."""
    sigmas = [np.inf]
    while sigmas[-1] >= sigma_end:
        s = mean + matrix @ (x - mean) - x
        sigmas.append(np.linalg.norm(s) / x.size**0.5)
        x = x + step_size * s
    return x, sigmas[1:]


def noise(n, seed=0, scale=1.0):
    return scale * gahb.gaussian_noise(n, SHAPE, seed).double()


@pytest.mark.parametrize("step_size", [0.01, 0.3, 1.0])
def test_gaussian_prior_is_a_linear_recursion(step_size):
    (f, matrix, mean), start = wiener(), 0.5
    x = noise(6 if step_size > 0.01 else 2)
    samples = gahb.sample(f, x, step_size=step_size, sigma_end=0.01, mean=start)
    for i in range(len(x)):
        image, sigmas = recursion(x[i].flatten().numpy() + start, matrix, mean, step_size, 0.01)
        assert int(samples.steps[i]) == len(sigmas)
        history = samples.sigmas[:, i].numpy()
        np.testing.assert_allclose(history[: len(sigmas)], sigmas, rtol=1e-9)
        np.testing.assert_array_equal(history[len(sigmas) :], history[len(sigmas) - 1])
        np.testing.assert_allclose(samples.images[i].flatten(), image, rtol=0, atol=1e-11)
    assert samples.sigmas.shape == (int(samples.steps.max()), len(x))
    if step_size < 1:
        assert len(samples.steps.unique()) > 1  # they do stop at different steps


def test_subspace_decays_geometrically_outside_and_keeps_what_is_inside():
    """Step t sees (1 - h)^(t-1) of the first residual: the number of steps and the sample in closed form."""
    vectors = torch.from_numpy(np.random.default_rng(1).random((2, *SHAPE)))
    q, _ = np.linalg.qr(vectors.flatten(1).numpy().T)
    x = noise(5, 2) * torch.tensor([0.1, 0.3, 1.0, 3.0, 9.0])[:, None, None, None]
    samples = gahb.sample(optimal.subspace(vectors), x, step_size=0.05, sigma_end=0.01)
    flat = x.flatten(1).numpy()
    inside = flat @ q @ q.T
    first = np.linalg.norm(flat - inside, axis=1) / 3
    steps = np.ceil(np.log(0.01 / first) / np.log(0.95)) + 1
    np.testing.assert_array_equal(samples.steps, steps)
    assert len(set(steps)) == 5
    truth = inside + 0.95 ** steps[:, None] * (flat - inside)
    np.testing.assert_allclose(samples.images.flatten(1), truth, rtol=0, atol=1e-11)
    expected = first * 0.95 ** np.minimum(np.arange(int(steps.max()))[:, None], steps - 1)
    np.testing.assert_allclose(samples.sigmas, expected, rtol=1e-9)
    assert int(gahb.sample(optimal.subspace(vectors), vectors[:1], sigma_end=1e-6).steps) == 1  # already there


def contraction():
    """Half of its input, and a little of a random BF-CNN."""
    net = gahb.BFCNN(depth=3, channels=4, seed=0).eval()
    net.noise[-1].weight.data.mul_(0.05)
    return lambda y: y / 2 + 0.5 * (net(y) - y)


@pytest.mark.parametrize(
    ("f", "x", "tolerance"),
    [(wiener()[0], noise(100), 1e-12), (contraction(), gahb.gaussian_noise(100, (1, 6, 6), 1), 1e-5)],
)
def test_image_in_a_batch_of_100_is_the_same_alone(f, x, tolerance):
    together = gahb.sample(f, x, step_size=0.1)
    assert len(together.steps.unique()) > 3
    for i in (0, 41, 99):
        alone = gahb.sample(f, x[i : i + 1], step_size=0.1)
        assert int(alone.steps) == int(together.steps[i])
        torch.testing.assert_close(alone.images[0], together.images[i], rtol=0, atol=tolerance)
        torch.testing.assert_close(alone.sigmas[:, 0], together.sigmas[: len(alone.sigmas), i], rtol=tolerance, atol=0)


def test_step_limit_is_an_error_with_numbers():
    f, _, _ = wiener()
    with pytest.raises(
        RuntimeError, match=r"4 of 4 samples had not reached sigma_end = 1e-05 after 20 steps"
    ) as caught:
        gahb.sample(f, noise(4), sigma_end=1e-5, max_steps=20)
    assert "their sigma is 0." in str(caught.value)
    needed = gahb.sample(f, noise(4), step_size=0.3)
    limit = int(needed.steps.max())
    torch.testing.assert_close(
        gahb.sample(f, noise(4), step_size=0.3, max_steps=limit).images, needed.images, rtol=0, atol=0
    )
    with pytest.raises(RuntimeError, match=f"after {limit - 1} steps"):
        gahb.sample(f, noise(4), step_size=0.3, max_steps=limit - 1)


def test_divergence_is_an_error_with_numbers():
    calls = []

    def grows(y):
        calls.append(1)
        return 3 * y

    with pytest.raises(RuntimeError, match=r"sample \d diverged at step \d+: sigma went from") as caught:
        gahb.sample(grows, noise(3), step_size=0.5)
    # x doubles at every step, so that the residual is a hundredfold after 7 doublings.
    assert len(calls) == 8
    assert "step 8" in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_an_error_that_names_the_sample(value):
    def broken(y):
        output = y / 2
        return torch.where((y == y[1]).flatten(1).all(1)[:, None, None, None], value, output)

    with pytest.raises(RuntimeError, match="sample 1 diverged at step 1"):
        gahb.sample(broken, noise(3))


def test_gaussian_noise_is_standard_normal_and_a_prefix():
    z = gahb.gaussian_noise(2000, (1, 5, 5), 3)
    assert z.dtype == torch.float32
    for n in (1, 7, 1999):
        torch.testing.assert_close(gahb.gaussian_noise(n, (1, 5, 5), 3), z[:n], rtol=0, atol=0)
    assert not torch.equal(gahb.gaussian_noise(7, (1, 5, 5), 4), z[:7])
    values = z.flatten().double().numpy()
    n = values.size
    # Moments of a standard normal within 4 standard errors: 0, 1 and 3, with variances 1, 2 and 96.
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (4, 3, 96)):
        assert abs((values**power).mean() - expected) < 4 * (variance / n) ** 0.5
    correlation = np.corrcoef(z.flatten(1).double().numpy().T) - np.eye(25)
    assert np.abs(correlation).max() < 5 / 2000**0.5
