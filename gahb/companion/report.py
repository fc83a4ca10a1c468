"""The report of a scale: its figures with captions, and the table of claims."""

from collections import Counter
from pathlib import Path
from typing import Any

from gahb._util.files import write_atomically, write_text
from gahb.companion import claims, plotting
from gahb.companion.scales import get, settings

CAPTIONS = {
    "fig01_memorization_transition": (
        "Figure 1",
        "Output against input PSNR of networks trained on N faces, on images of their training set (left) and on "
        "others (right). As N grows the training set is denoised less well and the test set better, until the two "
        "agree. Dotted: the optimal denoiser of each training set, which outputs mixtures of its images; the curve "
        "leaves the frame where it makes no error. Dashed: projection on the line through the one image, which does "
        "not use its brightness.",
    ),
    "fig01b_generalization_gap": (
        "Equation 5",
        "The difference of test and train error, times sigma^-3, integrated over the measured noise levels, for each "
        "N. The train error replaces the least possible error of Eq. 5, which is unknown: an error that both have in "
        "common is not seen.",
    ),
    "fig02_model_variance": (
        "Figure 2",
        "Samples of two networks trained on disjoint sets S1 and S2, from the same noise, with the most similar "
        "training image above and below. Each image is stretched to the full gray scale, as the similarity ignores "
        "their scale. Bottom: similarity of the pairs (blue), and of the samples of the network of S1 to S1 (orange). "
        "For small N samples are training images; for large N the two networks draw the same image.",
    ),
    "fig02b_similarity": (
        "Figure 2, summary",
        "Medians of the same similarities against N with 95 % bootstrap intervals, plain and with image means removed.",
    ),
    "fig03_adaptive_basis": (
        "Figure 3",
        "A face, noisy and denoised; the falling shrinkage factors (red) and the coefficients of the clean image "
        "(blue); eigenvectors of the symmetric part of the Jacobian, as in all figures. They follow the contours, and "
        "oscillate faster as the factor falls. An optimal denoiser has no factors below 0 (Eq. 9); those of the "
        "network show how far it is from optimal, and the coefficients rise again along them.",
    ),
    "fig03b_stein": (
        "Equations 7 and 10",
        "The error on test images, Stein's estimate of it (bars: three standard errors), and sigma^2 times the trace "
        "of the Jacobian. Right: the ratio of that product to the error with its 95 % bootstrap band; gray: the range "
        "in which claim 3.4 holds.",
    ),
    "fig03c_oracle": (
        "Equations 11 to 13",
        "Oracle shrinkage and soft thresholding in the adaptive basis and in the DCT, against the network, on one "
        "face. The formulas are for a basis that does not depend on the noise. The adaptive basis was computed from "
        "the same noisy image, so the noise along its vectors differs from the noise elsewhere: the network can beat "
        "its oracle, and thresholding does badly in it.",
    ),
    "fig03d_released": (
        "Figure 3, released network",
        "A network that the authors released, on a photograph: the leading eigenvectors of its Jacobian.",
    ),
    "fig04_c_alpha_optimality": (
        "Figure 4",
        "PSNR curves of networks trained on C-alpha images with lines of the optimal slopes (dashed, 2 dB higher, "
        "over the range of each fit), the fitted slopes against alpha / (alpha + 1), and the top eigenvectors for two "
        "regularities.",
    ),
    "fig04b_c_alpha_images": ("Figure 4, images", "Examples of C-alpha images of each regularity."),
    "fig04c_wavelets": (
        "Section 3.2",
        "The network against the best soft thresholding of wavelet coefficients, in one basis for all images.",
    ),
    "fig05_disks": (
        "Figure 5",
        "A disk, noisy and denoised; shrinkage factors and coefficients; the PSNR curve, and above it that of the "
        "projection on the tangent space, which is optimal for small noise; the five tangent vectors of the manifold; "
        "the top ten eigenvectors: the tangent space, then harmonics that are not needed.",
    ),
    "fig05b_disks_rank": (
        "Figure 5, rank",
        "The number of directions that the network keeps grows as the noise falls, although five suffice.",
    ),
    "fig06_shuffled_faces": (
        "Figure 6",
        "Faces with shuffled pixels. Top row: clean, noisy and denoised by the network of shuffled faces, unshuffled; "
        "below: the same as that network sees them, and the result of the network of faces for the same noise. The "
        "shrinkage factors of both, their PSNR curves with slopes over the range of claim 6.2, and eigenvectors "
        "before and after unshuffling.",
    ),
    "fig07_closest_pairs": (
        "Figure 7",
        "Similarity of the closest pairs of images across S1 and S2, against that of pairs of samples.",
    ),
    "fig08_scenes": ("Figure 8", "Scenes: samples of two networks trained on disjoint sets, from the same noise."),
    "fig09_scenes_similarity": (
        "Figure 9",
        "Scenes: similarity of the pairs of samples (blue) and of samples to their training set (orange).",
    ),
    "fig10_contour_regularity": (
        "Figure 10",
        "Images with contours of increasing regularity on a smooth background, and their top eigenvectors: the more "
        "regular the contour, the less localized the harmonics along it.",
    ),
    "fig11_c_alpha_example": ("Figure 11", "One more C-alpha image, its shrinkage factors and top eigenvectors."),
    "fig12_one_image": (
        "Figure 12",
        "One image (here a geometric one, not a face) times an intensity: the first eigenvector is the image, and the "
        "others are harmonics whose factors should be zero; the PSNR curve stays below the optimal one.",
    ),
    "fig13_sinusoids": (
        "Figure 13",
        "Sinusoids of one frequency: the two tangent vectors, the shrinkage factors, and the top eigenvectors, the "
        "first two of which span the tangent plane.",
    ),
}

MANY = 8  # most numbers in a cell of a table; of longer lists, which the ledger holds, the range is shown
REASONS = {  # why a scale may deviate from the paper
    "face_size": "time",
    "face_N": "time",
    "face_test": "available photographs",
    "scene_size": "time",
    "scene_N": "time",
    "scene_test": "available photographs",
    "class_size": "time",
    "class_N": "time",
    "class_test": "time",
    "input_db": "fewer noise levels, time",
    "samples": "time",
    "analysed": "time",
    "step_size": "fewer steps of Algorithm 1, time",
    "sigma_end": "samples from mean 0 are dark, and 0.01 is not small against their contrast; at smoke scale, time",
    "network": "better curves for the same work (benchmarks/recipes.md); unlike the paper's, it downsamples the image",
    "network_kwargs": "time",
    "sigma_max": "curves reach sigma = 1, which should not be the edge of the training range",
    "noise_distribution": "more small noise; the authors' code draws sqrt-uniform",
    "loss_weighting": "small noise counts as much; the optimum at each level is the same (benchmarks/recipes.md)",
    "batch_size": "more steps for the same number of images",
    "images_seen": "time",
    "optimizer": "better curves for the same number of images (benchmarks/recipes.md)",
    "learning_rate": "suits the optimizer and the schedule",
    "lr_schedule": "a short training does well to end at rate 0",
    "precision": "tiny networks",
}
UNSTATED = ("face_test", "scene_test", "class_test", "input_db", "samples", "analysed", "images_seen")  # in the paper
TERMS = (
    "PSNR in dB, input PSNR: -20 log10 sigma; d: pixels of an image. Similarity: cosine, and *centered* with the mean "
    "of each image removed; a rule about similarities must hold for both. Effective rank: sum of the shrinkage factors "
    "lambda_k. Asymmetry: norm(J - J^T) / norm(J) of the Jacobian J; negative share: the summed size of its negative "
    "eigenvalues over that of the positive ones. Memorized share: the fraction of samples that are less than a third "
    "as far from one training image as from the next. Bands and intervals: 95 %, by bootstrap over images. A claim "
    "about an angle or a rank is judged by the median or mean over images; 3.5, 5.5 and 5.6 are about one image."
)
DEPTH = "layers of BF-CNN | 21 in its text, 665,856 parameters | 20 | those of 20, as in the authors' code"
ALWAYS = (  # at every scale
    "image of Figure 12 | a face | a geometric image | a network of one face contains that face",
    "faces | CelebA | those given, see above | available data",
    "scenes | LSUN bedrooms | those given, see above | available data",
)


def report(folder: str | Path) -> str:
    """Return the report of one scale's folder of figures, as Markdown.

    ``notes.md`` in that folder, if there is one, explains its verdicts, and becomes a part of the report.
    """
    folder = Path(folder)
    notes = folder / "notes.md"
    provenance = plotting.provenance(folder)
    measured = claims.read(folder)
    scale = provenance.get("scale", {}).get("name", folder.name)
    rows = [claims.entry(claim, measured.get(claim.id), scale) for claim in claims.CLAIMS]
    try:
        made = [_setting(provenance), _deviations(provenance), _networks(provenance)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"provenance.json in {folder} is damaged or was altered ({error!r}); put an earlier copy back, or move it "
            "away and run the notebooks again, which write a new one"
        ) from None
    parts = [
        f"# Generalization in diffusion models, at {scale} scale",
        _summary(rows, scale),
        *made,
        "## Claims of the paper",
        TERMS,
        claims_table(rows),
        notes.read_text(encoding="utf-8").strip() if notes.is_file() else "",
        "## Figures",
        "A caption says what is drawn and what the paper finds in it; the table above says whether that holds here.",
        *(_figure(name, provenance) for name in CAPTIONS if (folder / f"{name}.png").is_file()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def notebook_page(executed: str | Path, folder: str | Path) -> None:
    """Write an executed notebook as Markdown beside its figures, ``notebooks/<name>.md``.

    The cell of injected parameters, progress on stderr and widgets are left out. The page refers to the figures in
    ``folder``; only other pictures are written again.
    """
    import nbformat
    from nbconvert import MarkdownExporter

    executed, folder = Path(executed), Path(folder)
    notebook = nbformat.read(executed, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            shown = [output for output in cell.outputs if output.get("name") != "stderr"]
            cell.outputs = [output for output in shown if "widget" not in " ".join(output.get("data", {}))]
    body, resources = MarkdownExporter().from_notebook_node(notebook)
    figures = {path.read_bytes(): f"../{path.name}" for path in folder.glob("fig*.png")}
    pages = folder / "notebooks"
    for name, picture in resources["outputs"].items():
        place = figures.get(picture)
        if place is None:
            place = f"{executed.stem}_{name}"
            write_atomically(pages / place, lambda temporary, picture=picture: temporary.write_bytes(picture))
        body = body.replace(f"]({name})", f"]({place})")
    write_text(pages / f"{executed.stem}.md", body.strip() + "\n")


def claims_table(rows: list[dict[str, Any]]) -> str:
    """Return the ledger as a Markdown table."""
    lines = ["| id | figure | claim | measured | rule | verdict |", "|---|---|---|---|---|---|"]
    for row in rows:
        cells = (row["id"], row["figure"], row["statement"], _brief(row["measured"]), row["rule"], row["verdict"])
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _summary(rows: list[dict[str, Any]], scale: str) -> str:
    counts = Counter(row["verdict"] for row in rows)
    text = ", ".join(f"{counts[verdict]} {verdict}" for verdict in claims.VERDICTS)
    if scale == "smoke":
        text += ". This scale shows that everything runs; its networks are too small to judge claims by"
    return f"Of {len(rows)} claims: {text}."


def _setting(provenance: dict[str, Any]) -> str:
    """Return what was run, on which device, for how long."""
    if not provenance:
        return ""
    lines = ["## What was run", "| | |", "|---|---|"]
    for kind, data in sorted(provenance.get("data", {}).items()):
        lines.append(
            f"| {kind} | {data['source']}: {data['found']:,} found, {data['size']}x{data['size']} pixels, "
            f"{data['near_duplicates']} near duplicates and {data['unreadable']} unreadable left out |"
        )
    for name, about in sorted(provenance.get("notebooks", {}).items()):
        threads, used = _counted(about["threads"], "thread"), _counted(len(set(about["networks"])), "network")
        machine = f"{about['device']} ({threads}, {about['machine']}, torch {about['torch']})"
        lines.append(f"| {name} | {about['seconds']:,.0f} s on {machine}, seed {about['seed']}, {used} |")
    return "\n".join(lines)


def _deviations(provenance: dict[str, Any]) -> str:
    """Return where the settings of this scale are not the paper's, and why."""
    here, paper = provenance.get("scale", {}), settings(get("paper"))
    training, synthetic = here.get("training", {}), here.get("synthetic_training", {})
    rows = [(key, paper[key], here.get(key)) for key in REASONS if key in paper]
    rows += [(key, paper["training"].get(key, "-"), training.get(key)) for key in REASONS if key not in paper]
    rows += [
        (f"{key}, {kind}", paper["training"].get(key, "-"), value)
        for kind, own, others in (
            ("synthetic", synthetic, training),
            ("disks", here.get("disks_training", {}), synthetic),
        )
        for key, value in own.items()
        if key in REASONS and value != others.get(key)
    ]
    lines = ["## Deviations from the paper", "| setting | the paper's | here | why |", "|---|---|---|---|"]
    for label, theirs, ours in rows:
        if ours is not None and (ours != theirs or "," in label):
            setting = label.split(",")[0]
            why = REASONS[setting] if ours != theirs else "as in the paper"
            if setting in UNSTATED:
                theirs = f"not stated ({_short(theirs)} at paper scale)"
            lines.append(f"| {label.replace('_', ' ')} | {_short(theirs)} | {_short(ours)} | {why} |")
    always = ALWAYS if training.get("network", "BFCNN") != "BFCNN" else (DEPTH, *ALWAYS)
    return "\n".join([*lines, *(f"| {row} |" for row in always)])


def _networks(provenance: dict[str, Any]) -> str:
    """Return the networks that the notebooks used in their last runs, and what their training took."""
    used = {name for notebook in provenance.get("notebooks", {}).values() for name in notebook["networks"]}
    rows = {name: made for name, made in provenance.get("networks", {}).items() if name in used}
    if not rows:
        return ""
    lines = ["## Networks", "| network | images seen | training | device |", "|---|---|---|---|"]
    for name, made in sorted(rows.items()):
        comes = ", comes with gahb" if made["pretrained"] else ""
        device = f"{made['device']} ({_counted(made['threads'], 'thread')}), torch {made['torch']}"
        lines.append(f"| {name} | {made['images_seen']:,} | {made['seconds']:,.0f} s{comes} | {device} |")
    return "\n".join([*lines, f"| total | | {sum(m['seconds'] for m in rows.values()) / 3600:.1f} hours | |"])


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _figure(name: str, provenance: dict[str, Any]) -> str:
    title, caption = CAPTIONS[name]
    made = provenance.get("figures", {}).get(name, {})
    source = f" Made by [notebooks/{made['notebook']}](notebooks/{made['notebook']}.md)." if made else ""
    return f"### {title}\n\n![{title}]({name}.png)\n\n{caption}{source}"


def _brief(measured: dict[str, Any] | None) -> str:
    """Return the numbers of a ledger row in a few words."""
    if not measured:
        return "-"
    return "; ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in measured.items())


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    if isinstance(value, list | tuple) and len(value) > MANY and all(type(item) in (int, float) for item in value):
        return f"{len(value)} values, {_short(min(value))} to {_short(max(value))}"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(_short(item) for item in value) + ")"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "-" if value is None else str(value)
