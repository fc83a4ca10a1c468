"""The report of a scale: its figures with captions, and the table of claims."""

from collections import Counter
from pathlib import Path
from typing import Any

from gahb.companion import ledger, plotting
from gahb.companion.claims import CLAIMS
from gahb.companion.ledger import brief
from gahb.companion.scales import get, settings

REASONS = {  # why a scale may deviate from the paper
    "face_size": "time",
    "face_N": "time",
    "face_test": "available photographs",
    "scene_size": "time",
    "scene_N": "time",
    "scene_test": "available photographs",
    "class_size": "time",
    "class_N": "time",
    "c_alpha_size": "larger at laptop, where slopes should tell bases apart; at smoke, time",
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
UNSTATED = ("face_test", "scene_test", "class_test", "input_db", "samples", "analysed", "images_seen", "precision")
AUTHORS = {"noise_distribution": "sqrt-uniform", "optimizer": "adam", "learning_rate": 1e-3, "lr_schedule": "halving"}
TERMS = (
    "PSNR in dB, input PSNR: -20 log10 sigma; d: pixels of an image. Similarity: cosine, and *centered* with the mean "
    "of each image removed; a rule about similarities must hold for both. Effective rank: sum of the shrinkage factors "
    "lambda_k. Asymmetry: norm(J - J^T) / norm(J) of the Jacobian J; negative fraction: the summed size of its "
    "negative eigenvalues over that of the positive ones. Memorized fraction: samples less than a third as far "
    "from one training image as from the next. Intervals: 95 %, by bootstrap over images. A claim about an angle or a "
    "rank is judged by the median or mean over images; 5.5 and 5.6 are about one image."
)
DEPTH = "layers of BF-CNN | 21 in its text, 665,856 parameters | 20 | those of 20, as in the authors' code"
ALWAYS = (  # at every scale
    "image of Figure 12 | a face | a geometric image | a network of one face contains that face",
    "faces | CelebA | those given, see above | available data",
    "scenes | LSUN bedrooms | those given, see above | available data",
    "Algorithm 2 | as printed | backgrounds in random ranges, mask blurred by 2x2, contours cut at the frame | "
    "the authors' code",
    "PSNR | not stated; the authors average dB over images | of the mean squared error | finite and unbiased by spread",
)


def report(folder: str | Path) -> str:
    """Return the report of one scale's folder of figures, as Markdown.

    ``notes.md`` in that folder, if there is one, explains its verdicts, and becomes a part of the report.
    """
    folder = Path(folder)
    notes = folder / "notes.md"
    provenance = plotting.provenance(folder)
    records = ledger.read(folder)
    scale = provenance.get("scale", {}).get("name", folder.name)
    rows = [ledger.entry(claim, records.get(claim.id), scale) for claim in CLAIMS]
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
        "### Evidence",
        "Each claim stands beside its null: what the same code measured on something that should not pass.",
        claims_table([row for row in rows if row["kind"] == "evidence"]),
        "### Identities",
        "These hold for any bias-free denoiser, or by algebra: a failure is a bug.",
        claims_table([row for row in rows if row["kind"] == "identity"]),
        notes.read_text(encoding="utf-8").strip() if notes.is_file() else "",
        "## Figures",
        *(
            _figure(name, made, rows)
            for name, made in sorted(provenance.get("figures", {}).items())
            if (folder / f"{name}.png").is_file()
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def claims_table(rows: list[dict[str, Any]]) -> str:
    """Return rows of the ledger as a Markdown table."""
    lines = ["| id | claim and rule | measured | null | interval | verdict |", "|---|---|---|---|---|---|"]
    for row in rows:
        remarks = [ledger.full_verdict(row)]
        if row["chosen_after"]:
            remarks.append(f"chosen after looking: {row['chosen_after']}")
        if row["first_rule"]:
            remarks.append(f"first edition: {row['first_rule']['verdict']} ({row['first_rule']['rule']})")
        claim = f"{row['statement']} *{row['rule']}* (Figure {row['figure']})".replace("(Figure Eq", "(Eq")
        claim = claim.replace("(Figure Sec", "(Sec")
        cells = [row["id"], claim, *(_cell(row[key]) for key in ("measured", "null", "interval")), "; ".join(remarks)]
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return brief(value) if value else "-"


def _summary(rows: list[dict[str, Any]], scale: str) -> str:
    """Return the verdicts, evidence and identities apart."""
    lines = []
    for kind, noun in (("evidence", "claims that could fail"), ("identity", "identities")):
        counts = Counter(row["verdict"] for row in rows if row["kind"] == kind)
        verdicts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ledger.VERDICTS if counts[verdict])
        lines.append(f"Of {counts.total()} {noun}: {verdicts}.")
    shared = [row["id"] for row in rows if row["verdict"] == "reproduced" and row["null_passes"]]
    if shared:
        lines.append(
            f"{len(shared)} of the reproduced claims hold for their null as well ({', '.join(shared)}): they are no "
            "evidence of anything beyond it."
        )
    if scale == "smoke":
        lines.append("This scale shows that everything runs; its networks are too small to judge claims by.")
    return " ".join(lines)


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
            if setting in AUTHORS:
                theirs = f"not stated (authors' code: {brief(AUTHORS[setting])})"
            elif setting in UNSTATED:
                theirs = f"not stated ({brief(theirs)} at paper scale)"
            lines.append(f"| {label.replace('_', ' ')} | {brief(theirs)} | {brief(ours)} | {why} |")
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


def _figure(name: str, made: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return a figure with its caption, and what the paper finds in it beside what was found here."""
    title = made.get("title", name)
    judged = [f"- {row['statement']} (claim {row['id']}) Here: **{row['verdict']}**." for row in rows
              if row["id"] in made.get("claims", ())]  # fmt: skip
    source = f"Made by `{made['notebook']}`." if "notebook" in made else ""
    text = f"{made.get('caption', '')} {source}".strip()
    return "\n\n".join([f"### {title}", f"![{title}]({name}.png)", text, *(["\n".join(judged)] if judged else [])])
