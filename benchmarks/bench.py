"""Speed, compared with a plain implementation and with the machine's matrix products: ``make bench``.

Each ratio is between two things that this run measures in turn, on the same work. Writes
``benchmarks/results.md`` (``results-cuda.md`` on a GPU) and exits with 1 if a bar is missed.
"""

import multiprocessing
import platform
import resource
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import reference
import torch
import whole_run

import gahb
from gahb import _alpert, bandlets, datasets, metrics
from gahb._util.devices import has_bfloat16_units, keep_freed_memory, pick_device
from gahb.companion import scales
from gahb.training.graph import captured
from gahb.training.loop import start, take_step
from gahb.training.store import pretrained_recipe

PAPER = {"depth": 20, "channels": 64}  # 665,856 parameters
OPERATIONS = 6 * 665_856 * 1600  # of a training image of 40x40: two per weight and pixel, three times
PAPER_IMAGES = 23 * 10_000_000
H100 = 989e12  # operations a second in bfloat16, by its maker's data sheet
GPU_FRACTION = 0.4  # of that: an assumption, where no GPU was measured
WHOLE = (
    "Each notebook's code under Python's profiler, one after another, from an empty store; `gahb reproduce` trains "
    "the networks of a notebook on all cores at once."
)


class Table:
    """Rows of results, and whether a bar was missed."""

    def __init__(self):
        self.lines, self.missed = ["| what | ours | compared with | ratio | bar | |", "|---|---|---|---|---|---|"], 0

    def row(self, what, ours, other, ratio=None, bar=None, below=False):
        """One comparison; ``bar`` is the least ratio, or with ``below`` the largest figure."""
        verdict = ""
        if bar is not None:
            held = ratio <= bar if below else ratio >= bar
            verdict, self.missed = "held" if held else "MISSED", self.missed + (not held)
        limit = "" if bar is None else f"{'<=' if below else '>='} {bar:g}"
        shown = "" if ratio is None else f"{ratio:.2f}"
        self.lines.append(f"| {what} | {ours} | {other} | {shown} | {limit} | {verdict} |")
        print(self.lines[-1], flush=True)


def seconds(function, device):
    begun = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def in_turn(repeats, device, *functions):
    """Median seconds of each function, called in turn."""
    times = [[seconds(function, device) for function in functions] for _ in range(repeats)]
    return [median(column) for column in zip(*times, strict=True)]


def products(number, device, dtype, size=2048):
    """A function of that many large matrix products: what the machine can do; and their operations."""
    a, b = torch.randn(2, size, size, device=device).to(dtype)

    def multiply():
        for _ in range(number):
            a @ b

    return multiply, number * 2 * size**3


def training_step(images, device, **how):
    """A training, and a function that takes one step of it as ``gahb.train`` does."""
    recipe = gahb.Recipe("bench", {}, **how)
    state, denoiser = start(recipe, images, device)
    state.network.train()
    advance = partial(take_step, state, denoiser, images.to(device))
    return state, captured(advance, state) if device.type == "cuda" else advance


def training(table, device, batch, training, repeats):
    """A step of the paper's network at 40x40, from uint8 on the device, against DataLoader and eager float32."""
    fast, size = has_bfloat16_units(device), training["network_kwargs"]
    images = torch.randint(0, 256, (2 * batch, 1, 40, 40), dtype=torch.uint8)
    plain = reference.training(images.float() / 255, **size, batch=batch, device=device)
    number = 1000 if device.type == "cuda" else 50
    ceiling, operations = products(number, device, torch.bfloat16 if fast else torch.float32)
    _, step = training_step(images, device, **training | {"batch_size": batch})
    steps = step, lambda: next(plain), ceiling
    in_turn(1, device, *steps)  # compiles
    mine, theirs, products_took = in_turn(repeats, device, *steps)
    rate, theirs, top = batch / mine, batch / theirs, operations / products_took
    precision = "bfloat16" if fast else "float32"
    what = f"training step, 40x40, batch {batch}, {precision}"
    bar = 3 if fast else 1
    table.row(what, f"{rate:.1f} images/s", f"plain, {theirs:.1f} images/s", rate / theirs, bar)
    done = rate * OPERATIONS
    table.row("the same, fraction of a matrix product's rate", f"{done / 1e9:,.0f} GFLOP/s",
              f"2048^3 {precision}, {top / 1e9:,.0f} GFLOP/s", done / top, 0.85)  # fmt: skip
    return rate


def a_face(size, device):
    """A smooth noisy image; speed does not depend on what it shows."""
    image = datasets.c_alpha(1, size, 3.0, seed=1)
    return (image + 0.15 * gahb.gaussian_noise(1, (1, size, size))).to(device)


def jacobians(table, device):
    """All rows, and the top 50 vectors, at 40x40; the row loop is timed on some rows and multiplied."""
    net, y = gahb.BFCNN(**PAPER).to(device).eval(), a_face(40, device)
    found, rows = {}, range(0, 1600, 32)
    full, loop = in_turn(
        3,
        device,
        lambda: found.update(full=gahb.jacobian(net, y)),
        lambda: found.update(rows=reference.jacobian_rows(net, y, rows)),
    )
    loop *= 1600 / len(rows)
    difference = float((found["rows"] - found["full"][list(rows)]).norm() / found["rows"].norm())
    bar = 20 if device.type == "cuda" else 1.5
    table.row(
        "full Jacobian, 1,600 x 1,600",
        f"{full:.1f} s",
        f"row loop, {loop:.1f} s ({len(rows)} rows timed)",
        loop / full,
        bar,
    )
    table.row("the same, difference", f"{difference:.1e}", "row loop", difference, 1e-4, below=True)
    took = seconds(lambda: gahb.adaptive_basis(net, y, k=50), device)
    what = "top 50 of 1,600, untrained: no fall of eigenvalues"
    table.row(what, f"{took:.1f} s", f"row loop's full Jacobian, {loop:.1f} s", loop / took)
    leading_pairs(table, device, 40, range(0, 1600, 8))


def leading_pairs(table, device, size, rows):
    """The top 50 of a trained network, against the row loop's whole Jacobian of it."""
    net, y, d = pretrained_network(device), a_face(size, device), size**2
    gahb.adaptive_basis(net, y, k=1)  # fills caches
    found = {}
    top, loop = in_turn(
        3,
        device,
        lambda: found.update(top=gahb.adaptive_basis(net, y, k=50)),
        lambda: reference.jacobian_rows(net, y, rows),
    )
    loop *= d / len(rows)
    other = f"row loop's full Jacobian, {loop:,.1f} s ({len(rows)} rows timed)"
    table.row(f"top 50 of {d:,}, trained", f"{top:.1f} s", other, loop / top, 4 if d <= 1600 else 8)
    if d <= 1600:
        full = gahb.jacobian(net, y)
        values = torch.linalg.eigvalsh((full + full.T).double().cpu() / 2).flip(0)[:50]
        error = float((found["top"].shrinkage.cpu() - values).abs().max())
        table.row("the same, error of the eigenvalues", f"{error:.1e}", "full Jacobian", error, 1e-4, below=True)


def peak_memory():
    """Most memory that this process has held, GB. On Linux of this program alone: getrusage counts its parent's too."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30  # macOS counts bytes


def _child(k, depth, device, answer):
    """A large Jacobian, or its top k, in a process of its own: seconds, and peak memory above what torch takes, GB."""
    device = torch.device(device)
    net, y = gahb.BFCNN(depth, 64).to(device).eval(), a_face(80, device)
    net(y)
    before = peak_memory()
    took = seconds(lambda: gahb.adaptive_basis(net, y, k=k) if k else gahb.jacobian(net, y), device)
    answer.put((took, peak_memory() - before))


def memory(table, what, k, depth, limit, device):
    """A row on memory. A spawned process, so that nothing else is counted."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_child, args=(k, depth, str(device), answer))
    process.start()
    took, held = answer.get(timeout=600)
    process.join()
    table.row(f"{what}: memory above torch's", f"{held:.2f} GB ({took:.0f} s)", "", held, limit, below=True)


def large_jacobians(table, device):
    """80x80: time and memory, which grows with the channels and not with the depth or k."""
    leading_pairs(table, device, 80, range(0, 6400, 128))
    memory(table, "top 5 of 6,400, paper's network", 5, 20, 1, device)
    memory(table, "full Jacobian, 6,400 x 6,400, 6 layers", None, 6, 2.5, device)


def sampling(table, device):
    """Algorithm 1 with a trained network, batched and one image at a time."""
    scale = scales.get("laptop")
    net = gahb.load_or_train(scales.c_alpha_recipe(scale, 3.0), device=device)
    noise, found = gahb.gaussian_noise(32, (1, 32, 32)).to(device), {}
    mine, theirs = in_turn(
        3,
        device,
        lambda: found.update(ours=gahb.sample(net, noise, 0.05, 0.02).images),
        lambda: found.update(plain=reference.samples(net, noise, 0.05, 0.02)),
    )
    bar = 20 if device.type == "cuda" else 1.5
    table.row(
        "sampling, 32 images of 32x32",
        f"{32 / mine:.1f} images/s",
        f"one at a time, {32 / theirs:.1f} images/s",
        theirs / mine,
        bar,
    )
    difference = float((found["ours"] - found["plain"]).abs().max())
    table.row("the same, difference", f"{difference:.1e}", "one at a time", difference, 1e-3, below=True)
    images = datasets.c_alpha(64, 32, 3.0, seed=2).to(device)
    mine, theirs = in_turn(
        3,
        device,
        lambda: gahb.psnr_curve(net, images, scale.sigmas),
        lambda: reference.psnr_curve(net, images, scale.sigmas),
    )
    table.row(
        f"PSNR curve, {len(scale.sigmas)} levels, 64 images",
        f"{mine:.2f} s",
        f"one at a time, {theirs:.2f} s",
        theirs / mine,
        1,
    )


def images(table, device):
    """Nearest images and generators."""
    some, train = torch.rand(1_000, 1, 40, 40, device=device), torch.rand(10_000, 1, 40, 40, device=device)
    mine, plain = in_turn(3, device, lambda: gahb.nearest(some, train), lambda: reference.nearest(some[:20], train))
    plain *= 50
    table.row("nearest of 10,000 for 1,000 images", f"{mine:.2f} s", f"loop, {plain:.1f} s (20 timed)", plain / mine, 1)
    table.row("the same, seconds", f"{mine:.2f} s", "", mine, 1, below=True)
    cpu = torch.device("cpu")
    for name, ours, theirs in (
        ("C-alpha", lambda: datasets.c_alpha(10_000, 40, 2.0), lambda: reference.c_alpha(1_000, 40, 2.0)),
        ("disk", lambda: datasets.disks(10_000, 40), lambda: reference.disks(1_000, 40)),
    ):
        mine, plain = in_turn(3, cpu, ours, theirs)
        table.row(
            f"10,000 {name} images of 40x40",
            f"{mine:.2f} s",
            f"loop, {10 * plain:.1f} s (1,000 timed)",
            10 * plain / mine,
            1,
        )
        table.row("the same, seconds", f"{mine:.2f} s", "", mine, 3, below=True)


def of_bandlets(answer):
    """Bandlets: 64 images of 64x64 and one of 256x256 on the CPU, in a process of its own for its memory."""
    noisy = datasets.c_alpha(64, 64, 2.0).double() + 0.1 * gahb.gaussian_noise(64, (1, 64, 64), 1)
    large = noisy[:16].float().view(4, 4, 64, 64).transpose(1, 2).reshape(1, 1, 256, 256)
    before, cpu, found = peak_memory(), torch.device("cpu"), {}
    ours = [seconds(lambda y=y: found.update(ours=bandlets.denoise(y, 0.1)), cpu) for y in (large, noisy)]
    held, matrices = peak_memory() - before, {side: _alpert.matrices(side, 2) for side in (4, 8, 16)}
    few = noisy[:4, 0].numpy()
    loop = 16 * seconds(lambda: found.update(loop=[reference.bandlets(y, 0.1, matrices) for y in few]), cpu)
    difference = float(np.abs(found["ours"][:4, 0].numpy() - np.array(found["loop"])).max())
    answer.put((ours, loop, difference, held))


def best_bases(table):
    """Denoising in the best bandlet basis; the first of our times includes the making of the Alpert transforms."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=of_bandlets, args=(answer,))
    process.start()
    (large, small), loop, difference, held = answer.get(timeout=600)
    process.join()
    what = "bandlets, 64 images of 64x64"
    table.row(what, f"{small:.2f} s", f"loop over squares, {loop:.1f} s (4 timed)", loop / small, 1)
    table.row("the same, seconds", f"{small:.2f} s", "", small, 10, below=True)
    table.row("the same, difference", f"{difference:.1e}", "loop over squares", difference, 1e-8, below=True)
    table.row("bandlets, one image of 256x256, seconds", f"{large:.2f} s", "", large, 3, below=True)
    table.row("bandlets: memory above torch's", f"{held:.2f} GB", "", held, 1, below=True)


def growth(device):
    """How time grows: exponents of powers, fitted to the times of a small network, as a Markdown table."""
    lines = ["| time of | against | measured, ms | exponent |", "|---|---|---|---|"]

    def fit(what, against, measure, values):
        times = [median(seconds(measure(value), device) for _ in range(3)) for value in values]
        slope = np.polyfit(np.log(values), np.log(times), 1)[0]
        shown = ", ".join(f"{value:,}: {1e3 * t:.3g}" for value, t in zip(values, times, strict=True))
        lines.append(f"| {what} | {against} | {shown} | {slope:.2f} |")
        print(lines[-1], flush=True)

    def small_step(size=20, n=256, batch=16):
        images = torch.randint(0, 256, (n, 1, size, size), dtype=torch.uint8)
        _, take = training_step(images, device, **scales.LAPTOP_TRAINING | {"batch_size": batch, "compile": False})
        take()
        return take

    net = pretrained_network(device)
    fit("training step, 16 images", "pixels", lambda d: small_step(size=round(d**0.5)), (256, 1024, 4096))
    fit("training step, 16 images of 20x20", "N", lambda n: small_step(n=n), (100, 1_000, 10_000, 100_000))
    fit("training step, 20x20", "batch", lambda b: small_step(batch=b), (4, 16, 64))
    fit(
        "full Jacobian", "pixels", lambda d: lambda: gahb.jacobian(net, a_face(round(d**0.5), device)), (256, 576, 1024)
    )
    y = a_face(40, device)
    fit("top k of 1,600", "k", lambda k: lambda: gahb.adaptive_basis(net, y, k=k), (5, 20, 80))
    fit(
        "denoising, 20x20",
        "batch",
        lambda b: lambda: metrics.squared_errors(net, torch.rand(b, 1, 20, 20, device=device), [0.1]),
        (16, 64, 256),
    )
    return "\n".join(lines)


def pretrained_network(device):
    return gahb.load_or_train(pretrained_recipe("laptop", "faces-S1-N10000"), device=device)


def machine(device):
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    model = f"{platform.machine()} with {torch.backends.cpu.get_cpu_capability()}"
    units = "with" if has_bfloat16_units(device) else "no"
    software = f"torch {torch.__version__}, Python {platform.python_version()}"
    return f"{model}, {torch.get_num_threads()} threads, {units} bfloat16 units, {software}"


def paper_cost(rate, device):
    """What the paper scale costs at a rate of images a second of its network."""
    operations = PAPER_IMAGES * OPERATIONS
    text = (
        f"23 networks of 10^7 images are {operations:.1e} operations. At the step measured here ({rate:.1f} images/s) "
    )
    text += f"they take {PAPER_IMAGES / rate / 3600:,.0f} hours."
    if device.type != "cuda":
        hours = operations / (GPU_FRACTION * H100) / 3600
        text += f" An H100 at {GPU_FRACTION:.0%} of its {H100 / 1e12:.0f} TFLOP/s in bfloat16 would take "
        text += f"{hours:.1f} hours: an estimate, no GPU was measured."
    return text


def main():
    device, table, begun = pick_device("auto"), Table(), time.monotonic()
    keep_freed_memory()  # as a training process does; the plain training gains by it too
    batch, repeats = (512, 20) if device.type == "cuda" else (128, 3)
    rate = training(table, device, batch, scales.PAPER_TRAINING, repeats)
    for part in (jacobians, large_jacobians, sampling, images):
        part(table, device)
    best_bases(table)
    grown, whole = growth(device), whole_run.table()
    print(whole)
    name = "results-cuda.md" if device.type == "cuda" else "results.md"
    text = "\n\n".join([
        "# Speed", f"`make bench` on {machine(device)}: {time.monotonic() - begun:.0f} s in all.",
        "\n".join(table.lines), "## As work grows", grown,
        "## The whole run at smoke scale", WHOLE, whole, "## Cost of the paper scale", paper_cost(rate, device),
    ])  # fmt: skip
    (Path(__file__).parent / name).write_text(text + "\n", encoding="utf-8")
    print(f"benchmarks/{name}: {table.missed} bars missed")
    return int(table.missed > 0)


if __name__ == "__main__":
    sys.exit(main())
