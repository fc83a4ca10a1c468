"""Does bfloat16 lose anything? Two trainings that differ only in the precision of their products.

``python benchmarks/precision.py FACES`` trains a network on 10,000 faces by the laptop scale's recipe, for a fifth of
its images, in float32 and in bfloat16, from the same seed, thus on the same batches and noise. It writes the test PSNR
of both to ``benchmarks/precision.md`` and ``benchmarks/precision.png``, and exits with 1 if they differ by more than
0.1 dB.
"""

import sys
from pathlib import Path

import torch

import gahb
from gahb import datasets, metrics
from gahb.companion import plotting, scales

IMAGES_SEEN = 48_000
LIMIT = 0.1  # dB, at every noise level
HERE = Path(__file__)


def main(faces):
    scale = scales.get("laptop")
    photographs = datasets.faces(faces, scale.face_size, 10_000, 500)
    images, tables, seconds = photographs.part("S1"), {}, {}
    for precision in ("float32", "bfloat16"):
        how = scale.training | {"precision": precision, "images_seen": IMAGES_SEEN}
        net = gahb.train(images, gahb.Recipe(precision, {"class": "faces"}, **how))
        tables[precision] = metrics.psnr_curve(net, photographs.test, scale.sigmas)
        seconds[precision] = net.history[-1]["seconds"]
    differences = tables["bfloat16"] - tables["float32"]
    lines = ["| input PSNR, dB | float32 | bfloat16 | difference |", "|---:|---:|---:|---:|"]
    for row in zip(scale.input_db, *(table.tolist() for table in tables.values()), differences.tolist(), strict=True):
        lines.append("| {} | {:.2f} | {:.2f} | {:+.2f} |".format(*row))
    worst = float(differences.abs().max())
    text = [
        "# Precision of the training",
        (__doc__ or "").split("\n\n", 1)[1].strip().replace("``", "`"),
        f"{IMAGES_SEEN:,} images of {scale.face_size}x{scale.face_size}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads: float32 in {seconds['float32']:.0f} s, bfloat16 in "
        f"{seconds['bfloat16']:.0f} s. Largest difference: {worst:.2f} dB.",
        "\n".join(lines),
        "![test PSNR of both](precision.png)",
    ]
    HERE.with_suffix(".md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    fig = plotting.new(4.8, 3.4)
    ax = fig.subplots()
    for (precision, table), mark in zip(tables.items(), ("o-", "x--"), strict=True):
        ax.plot(scale.input_db, table, mark, label=precision)
    ax.set(xlabel=plotting.INPUT_PSNR, ylabel="output PSNR (dB)")
    ax.legend(fontsize=8)
    fig.savefig(HERE.with_suffix(".png"), dpi=110)
    print(text[2])
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
