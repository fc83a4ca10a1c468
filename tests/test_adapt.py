"""Denoisers of other libraries: each conversion against the posterior mean of a Gaussian prior, computed by NumPy."""

import numpy as np
import pytest
import torch
from helpers import draw, spread

import gahb
from gahb import adapt, metrics, optimal, sampling

SHAPE = (2, 2, 5)  # channels, height, width
MEAN, COV = 0.5 + draw(*SHAPE).numpy() / 5, spread(2)
ALPHAS = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))  # of Ho et al.
LOGS = np.log((1 - ALPHAS) / ALPHAS) / 2
SPANS = [(-1.0, 1.0), (0.0, 255.0), (-0.5, 3.5)]
# Intensities in [0, 1] whose noise level in [-1, 1] is that of a step, or between two.
AT_STEP, BETWEEN = np.exp(LOGS[[5, 300]]) / 2, np.exp(LOGS[[3, 400]] * 0.3 + LOGS[[4, 401]] * 0.7) / 2


def posterior_mean(y, sigma, span=(0.0, 1.0)):
    """E[x | y] for the Gaussian prior, whose images are moved to ``span``, in NumPy; sigma one number or (B,)."""
    width = span[1] - span[0]
    mean, cov, flat = (span[0] + width * MEAN).ravel(), width**2 * COV, y.detach().numpy().reshape(len(y), -1)
    sigma = np.broadcast_to(sigma, len(y))
    rows = [
        mean + cov @ np.linalg.solve(cov + s**2 * np.eye(20), row - mean) for row, s in zip(flat, sigma, strict=True)
    ]
    return torch.from_numpy(np.array(rows)).view(y.shape)


def network(prediction, span, seen=None):
    """What an optimal network of the prior predicts at a time between two steps, with log sigma linear in time."""

    def predict(x, t):
        if seen is not None:
            seen.append(t)
        s = np.exp(np.interp(t.numpy(), np.arange(1000), LOGS))
        alpha = torch.from_numpy(1 / (1 + s**2))[:, None, None, None]
        clean = posterior_mean(x / alpha.sqrt(), s, span)
        noise = (x - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        v = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        return {"epsilon": noise, "sample": clean, "v_prediction": v}[prediction]

    return predict


@pytest.mark.parametrize("prediction", adapt.PREDICTIONS)
@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("batch", [1, 4])
def test_variance_preserving_networks_are_posterior_means(prediction, span, batch):
    at = adapt.variance_preserving(network(prediction, span), ALPHAS, prediction, span)
    for s in (*AT_STEP, *BETWEEN):
        sigma = 2 * s / (span[1] - span[0])
        y = torch.from_numpy(MEAN) + sigma * draw(batch, *SHAPE, seed=3)
        torch.testing.assert_close(at(sigma)(y), posterior_mean(y, sigma), rtol=0, atol=1e-6)


@pytest.mark.parametrize("prediction", adapt.PREDICTIONS)
def test_nearest_time_is_a_whole_step_and_exact_at_steps(prediction):
    seen = []
    at = adapt.variance_preserving(network(prediction, (-1, 1), seen), ALPHAS, prediction, time="nearest")
    y = torch.from_numpy(MEAN) + draw(3, *SHAPE, seed=3)
    for sigma in AT_STEP:
        torch.testing.assert_close(at(sigma)(y), posterior_mean(y, sigma), rtol=0, atol=1e-6)
    for sigma in BETWEEN:
        at(sigma)(y)
    assert [t.tolist() for t in seen] == [[5] * 3, [300] * 3, [4] * 3, [401] * 3]
    assert all(t.dtype == torch.int64 for t in seen)


def test_steps_without_image_or_noise_are_left_out():
    """Schedules of zero terminal signal-to-noise ratio end at a = 0; others begin at a = 1."""
    seen = []
    at = adapt.variance_preserving(network("sample", (-1, 1), seen), np.r_[1, ALPHAS, 0], "sample")
    y = torch.from_numpy(MEAN)[None]
    at(AT_STEP[1])(y)
    assert seen[0].tolist() == pytest.approx([301])
    with pytest.raises(ValueError, match=r"schedule, 0\.00500025 to 78\.7036, got 100"):
        at(100)


@pytest.mark.parametrize("sigma", [0.004, 79])
def test_a_sigma_outside_the_schedule_is_refused(sigma):
    with pytest.raises(
        ValueError, match=r"must be a noise level of the network's schedule, 0\.00500025 to 78\.7036, got"
    ):
        adapt.variance_preserving(network("sample", (-1, 1)), ALPHAS)(sigma)


class Preconditioned(torch.nn.Module):
    """Equation 7 and Table 1 of Karras et al. (2022), around the raw network that makes the whole optimal."""

    sigma_min, sigma_max, sigma_data = 0.002, 80.0, 0.5

    def __init__(self, span, classes=0):
        super().__init__()
        self.span, self.label_dim = span, classes

    def raw(self, x, c_noise):
        sigma = float(torch.exp(4 * c_noise))
        total = (sigma**2 + self.sigma_data**2) ** 0.5
        noisy = x * total  # c_in is 1 / total
        c_skip, c_out = self.sigma_data**2 / total**2, sigma * self.sigma_data / total
        return (posterior_mean(noisy, sigma, self.span) - c_skip * noisy) / c_out

    def forward(self, x, sigma, class_labels=None):
        assert sigma.shape == ()
        self.seen = class_labels
        total = (sigma**2 + self.sigma_data**2).sqrt()
        c_skip, c_out = self.sigma_data**2 / total**2, sigma * self.sigma_data / total
        return c_skip * x + c_out * self.raw(x / total, sigma.log() / 4)


@pytest.mark.parametrize("span", SPANS)
def test_preconditioned_networks_are_posterior_means(span):
    at = adapt.edm(Preconditioned(span), span)
    for sigma in (0.02, 0.3):
        y = torch.from_numpy(MEAN) + sigma * draw(3, *SHAPE, seed=3)
        torch.testing.assert_close(at(sigma)(y), posterior_mean(y, sigma), rtol=0, atol=1e-6)
    lowest, highest = 0.002 / (span[1] - span[0]), 80 / (span[1] - span[0])
    for sigma in (0.99 * lowest, 1.01 * highest):
        with pytest.raises(ValueError, match="sigma must be a noise level of the network's schedule"):
            at(sigma)


def test_score_and_flow_networks_are_posterior_means_as_the_docstring_says():
    span, sigma = (-1.0, 1.0), 0.2
    y = torch.from_numpy(MEAN) + sigma * draw(3, *SHAPE, seed=3)

    def score(x, s):
        """Gradient of the log of the density of noisy images, N(m, C + s^2 Id)."""
        cov = 4 * COV + float(s) ** 2 * np.eye(20)
        away = (x - torch.from_numpy(2 * MEAN - 1)).flatten(1).numpy()
        return torch.from_numpy(-np.linalg.solve(cov, away.T).T).view(x.shape)

    def velocity(z, t):
        """E[n - x | (1 - t) x + t n = z]."""
        s = float(t / (1 - t))
        clean = posterior_mean(z / (1 - t), s, span)
        return (z - (1 - t) * clean) / t - clean

    def of_flow(x, s):
        t = s / (1 + s)
        z = (1 - t) * x
        return z - t * velocity(z, t)

    for net in (lambda x, s: x + s**2 * score(x, s), of_flow):
        torch.testing.assert_close(adapt.edm(net)(sigma)(y), posterior_mean(y, sigma), rtol=0, atol=1e-6)


@pytest.mark.parametrize("span", SPANS)
def test_rescaled_denoisers_are_posterior_means(span):
    sigma = 0.1
    f = adapt.rescaled(lambda x: posterior_mean(x, sigma * (span[1] - span[0]), span), span)
    y = torch.from_numpy(MEAN) + sigma * draw(3, *SHAPE, seed=3)
    torch.testing.assert_close(f(y), posterior_mean(y, sigma), rtol=0, atol=1e-6)


# --- what takes a denoiser that must be told sigma --------------------------------------------------------------------


def told():
    """sigma -> f(y) for the Gaussian prior: differentiable, through the conversion of a network of epsilon."""
    mean, cov = torch.from_numpy(2 * MEAN - 1).flatten(), torch.from_numpy(4 * COV)

    def epsilon(x, t):
        s = float(np.exp(np.interp(t[0], np.arange(1000), LOGS)))
        noisy = x.flatten(1) * (1 + s**2) ** 0.5
        return (s * torch.linalg.solve(cov + s**2 * torch.eye(20).double(), (noisy - mean).T).T).view(x.shape)

    return adapt.variance_preserving(epsilon, ALPHAS)


IMAGES = (torch.from_numpy(MEAN) + draw(4, 20, seed=8).mul(0.2).view(4, *SHAPE)).clamp(0, 1)


def test_curves_and_model_variance_tell_each_sigma():
    at, sigmas = told(), [0.3, 0.1, 0.02]
    noise = gahb.gaussian_noise(4, SHAPE, 5).double()
    pairs = [(IMAGES + s * noise, s) for s in sigmas]
    errors = torch.stack([(posterior_mean(y, s) - IMAGES).square().flatten(1).mean(1) for y, s in pairs])
    torch.testing.assert_close(metrics.squared_errors(at, IMAGES, sigmas, 5), errors, rtol=1e-6, atol=0)
    curve = gahb.psnr_curve(at, IMAGES, sigmas, 5)
    torch.testing.assert_close(curve, -10 * errors.mean(1).log10(), rtol=1e-6, atol=0)
    blind = optimal.subspace(draw(3, *SHAPE))
    apart = torch.stack([(posterior_mean(y, s) - blind(y)).square().flatten(1).mean(1) for y, s in pairs])
    for pair in ((at, blind), (blind, at)):
        torch.testing.assert_close(metrics.squared_differences(*pair, IMAGES, sigmas, 5), apart, rtol=1e-6, atol=0)


def test_a_wiener_filter_is_one_of_them():
    at = optimal.wiener(IMAGES)
    one_by_one = torch.cat([gahb.psnr_curve(at(s), IMAGES, s) for s in (0.3, 0.1)])
    torch.testing.assert_close(gahb.psnr_curve(at, IMAGES, [0.3, 0.1]), one_by_one, rtol=1e-12, atol=0)


def test_steins_risk_tells_sigma():
    sigma = 0.2
    risk = metrics.stein_risk(told(), IMAGES, sigma, probes=400)
    trace = np.trace(COV @ np.linalg.inv(COV + sigma**2 * np.eye(20)))
    assert (risk["trace"] * 20 / sigma**2).mean() == pytest.approx(trace, rel=0.02)
    y = IMAGES + sigma * gahb.gaussian_noise(4, SHAPE, 0).double()
    mse = (posterior_mean(y, sigma) - IMAGES).square().flatten(1).mean(1)
    torch.testing.assert_close(risk["mse"], mse, rtol=1e-6, atol=0)


def test_jacobians_and_bases_are_those_of_the_gaussian():
    sigma = 0.2
    expected = COV @ np.linalg.inv(COV + sigma**2 * np.eye(20))
    np.testing.assert_allclose(gahb.jacobian(told()(sigma), IMAGES[0]), expected, rtol=0, atol=1e-6)
    found = gahb.analyse(told(), IMAGES[0], sigma, k=4)
    np.testing.assert_allclose(found.basis.shrinkage, np.linalg.eigvalsh(expected)[:-5:-1], rtol=0, atol=1e-6)
    torch.testing.assert_close(found.denoised, posterior_mean(found.noisy, sigma), rtol=0, atol=1e-6)


@pytest.mark.parametrize("use", [gahb.sample, gahb.jacobian, metrics.denoised])
def test_where_images_alone_are_given_sigma_is_asked_for(use):
    with pytest.raises(TypeError, match=r"must be told the noise level: give denoiser\(sigma\)"):
        use(told(), IMAGES[:1])


# --- the sampler ------------------------------------------------------------------------------------------------------


def flow(start, first, last):
    """The probability flow of the Gaussian prior: each component falls as the root of its variance."""
    values, vectors = np.linalg.eigh(COV)
    root = np.sqrt((values + last**2) / (values + first**2))
    away = (start.numpy() - MEAN).reshape(len(start), -1)
    return torch.from_numpy(away @ vectors * root @ vectors.T + MEAN.ravel()).view(start.shape)


def test_samples_follow_the_exact_flow_to_second_order():
    noise, errors = draw(3, *SHAPE, seed=6), []
    exact = flow(0.5 + 4 * noise, 4.0, 0.0051)
    for steps in (64, 128, 256):
        sigmas = sampling.karras_sigmas(4.0, 0.0051, steps)
        last = posterior_mean(exact, 0.0051)  # what the step from the last level to 0 makes of it
        errors.append(float((sampling.probability_flow(told(), noise, sigmas) - last).abs().max()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.15)


def test_samples_have_the_moments_of_the_prior():
    noise = gahb.gaussian_noise(4000, SHAPE, 2).double()
    images = sampling.probability_flow(optimal.wiener(IMAGES), noise, sampling.karras_sigmas(20, 0.001, 40), mean=0.4)
    mean, cov = optimal.moments(IMAGES)
    sd = cov.diagonal().max().sqrt()
    # Beside the error of a mean of 4000, what is left of the start's mean: at most its distance times sd / 20.
    assert (images.mean(0) - mean).abs().max() < 5 * sd / 4000**0.5 + 0.6 * sd / 20
    found = np.cov(images.flatten(1).numpy().T)
    np.testing.assert_allclose(found, cov, rtol=0, atol=6 * float(cov.diagonal().max()) / 4000**0.5)


def test_noise_levels_are_those_of_karras():
    """Table 1 and Eq. 5 of the paper: 18 levels from 80 to 0.002, rho = 7."""
    sigmas = sampling.karras_sigmas(80, 0.002, 18)
    assert sigmas[:2] == pytest.approx([80, 57.586], rel=1e-4)
    assert sigmas[-1] == pytest.approx(0.002)
    assert sampling.karras_sigmas(3, 1, 3, rho=1) == pytest.approx([3, 2, 1])


# --- bad input --------------------------------------------------------------------------------------------------------


class Output:
    def __init__(self, sample):
        self.sample = sample


Y = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_an_object_with_sample_is_read():
    plain = adapt.variance_preserving(lambda x, t: x / 3, ALPHAS)(0.1)(Y)
    torch.testing.assert_close(adapt.variance_preserving(lambda x, t: Output(x / 3), ALPHAS)(0.1)(Y), plain)


def test_a_learned_variance_is_left_out():
    plain = adapt.variance_preserving(lambda x, t: x / 3, ALPHAS)(0.1)(Y)
    both = adapt.variance_preserving(lambda x, t: torch.cat([x / 3, x * 9], 1), ALPHAS, learned_variance=True)
    torch.testing.assert_close(both(0.1)(Y), plain)


@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        (lambda x: x[:, :1], ValueError, r"network must return images of shape \(3, 3, 8, 8\), got \(3, 1, 8, 8\)"),
        (lambda x: torch.cat([x, x], 1), ValueError, r"got \(3, 6, 8, 8\)"),
        (lambda x: x.mean(), ValueError, r"got \(\)"),
        (lambda x: (x,), TypeError, "network must return a torch.Tensor or an object with .sample, got tuple"),
        (lambda x: Output(None), TypeError, "got NoneType"),
    ],
)
def test_a_network_must_return_images(output, error, message):
    for f in (
        adapt.variance_preserving(lambda x, t: output(x), ALPHAS)(0.1),
        adapt.edm(lambda x, s: output(x))(0.1),
        adapt.rescaled(output, (-1, 1)),
    ):
        with pytest.raises(error, match=message):
            f(Y)


def test_a_network_that_fails_says_on_what():
    net = torch.nn.Conv2d(1, 1, 3, padding=1)
    with pytest.raises(
        RuntimeError, match=r"network failed on torch.float32 images of shape \(3, 3, 8, 8\); .* 1 chan"
    ):
        adapt.rescaled(net, (-1, 1))(Y)


class Noisy(torch.nn.Module):
    """Dropout and batch statistics: outside an analysis its output is random, and mixes the images of a batch."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop = torch.nn.BatchNorm2d(3), torch.nn.Dropout(0.5)

    def forward(self, x, *told):
        return self.drop(self.norm(x))


@pytest.mark.parametrize("convert", [lambda n: adapt.variance_preserving(n, ALPHAS), adapt.edm], ids=["vp", "edm"])
def test_dropout_and_batch_statistics_are_off_in_an_analysis_and_restored(convert):
    net = Noisy().train()
    net.drop.eval()  # a mixed state
    gahb.psnr_curve(convert(net), Y, [0.1])
    gahb.adaptive_basis(convert(net)(0.1), Y[0, :, :3, :3])
    with_others, alone = (metrics.denoised(convert(net)(0.1), y)[0] for y in (Y, Y[:1]))
    torch.testing.assert_close(with_others, alone, rtol=0, atol=1e-6)
    assert (net.training, net.norm.training, net.drop.training) == (True, True, False)
    assert all(p.requires_grad for p in net.parameters())
    assert net.norm.num_batches_tracked == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_network_of_half_precision_is_analysed_in_that_of_the_images(dtype):
    """Its weights are rounded, but no operation is: in float64 the Jacobian is that of the rounded weights."""
    net = torch.nn.Conv2d(3, 3, 3, padding=1).to(dtype)
    same = torch.nn.Conv2d(3, 3, 3, padding=1).double()
    same.load_state_dict(net.state_dict())
    half, whole = (adapt.edm(_Told(each))(0.1) for each in (net, same))
    y = Y[:1, :, :4, :4].double()
    torch.testing.assert_close(gahb.jacobian(half, y), gahb.jacobian(whole, y), rtol=0, atol=1e-12)
    torch.testing.assert_close(half(y), whole(y), rtol=0, atol=0.05)  # called directly, the network rounds
    assert half(y).dtype == torch.float64 and net.weight.dtype == dtype


class _Told(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, sigma):
        return self.net(x)


def test_a_label_is_given_to_every_image_of_a_batch():
    net = Preconditioned((-1, 1), classes=4)
    adapt.edm(net, label=2)(0.1)(draw(3, *SHAPE))
    assert net.seen.tolist() == [[0, 0, 1, 0]] * 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: adapt.edm(Preconditioned((-1, 1), 4)),
            ValueError,
            "network is conditioned on a class: give the class",
        ),
        (lambda: adapt.edm(Preconditioned((-1, 1), 4), label=4), ValueError, "label must be below 4"),
        (lambda: adapt.edm(Preconditioned((-1, 1)), label=0), ValueError, "network has no classes"),
        (lambda: adapt.edm(Preconditioned((-1, 1), 4), label=0.5), TypeError, "label must be an integer"),
        (lambda: adapt.edm(lambda x, s: x, span=(1, -1)), ValueError, "span must rise"),
        (lambda: adapt.edm(lambda x, s: x, span=255), TypeError, "span must be two numbers"),
        (lambda: adapt.edm(lambda x, s: x)(0), ValueError, "sigma must be a positive number"),
        (lambda: adapt.edm("net")(0.1), TypeError, "network must be a function of images, got str"),
        (lambda: adapt.variance_preserving(Y, ALPHAS[::-1]), ValueError, "alphas_cumprod must fall"),
        (lambda: adapt.variance_preserving(Y, [1.0, 0.0]), ValueError, "must have a step between"),
        (lambda: adapt.variance_preserving(Y, ALPHAS, "flow"), ValueError, "prediction must be one of epsilon"),
        (lambda: adapt.variance_preserving(Y, ALPHAS, time="exact"), ValueError, "time must be one of interpolated"),
        (lambda: sampling.probability_flow(lambda y: y, Y, [1, 0.1]), TypeError, "take gahb.sample"),
        (lambda: sampling.probability_flow(told(), Y, [0.1, 1]), ValueError, "sigmas must fall"),
        (lambda: sampling.karras_sigmas(0.1, 1, 5), ValueError, "first must be above last"),
    ],
)
def test_bad_arguments_are_sentences(call, error, message):
    with pytest.raises(error, match=message):
        call()
