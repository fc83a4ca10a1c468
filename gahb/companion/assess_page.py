"""``gahb assess``: reads folders, compares them by :mod:`gahb.assess`, writes a page and its numbers as JSON."""

import base64
import html
import io
import json
import math
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from gahb._util.files import check_writable, write_text
from gahb.assess import Assessment, assess, evenly_spaced, memorized
from gahb.datasets.image_sets import ImageSet, in_gray, read_images

FILES = ("assessment.html", "assessment.json")
LISTED = 50  # near duplicates and unreadable files that the page lists
WIDTH = 96  # pixels of an image on the page
NAMES = {
    "nearest": "sample and nearest training image",
    "seen": "the same, of as many training images as unseen ones",
    "unseen": "sample and nearest unseen image",
    "excess": "excess over unseen images",
    "pair": "sample and twin's sample",
    "other_noise": "two samples, from two noise images",
}
RULE = (
    "A sample is called a copy if its nearest training image is less than a third as far away as the second nearest, "
    "all images compared at equal brightness and contrast (mean removed, norm 1), near duplicates counted as one "
    "image. This finds the picture at its place, whatever was done to its grays. Mirrored copies (left and right) are "
    "looked for too. Copies that are shifted, cropped, turned or strongly blurred are out of scope."
)
CAUTION = (
    "If images have few degrees of freedom, k, an unseen one is called a copy with a chance of about 3^-k. Unseen "
    "images (--unseen) show it. Samples below all of their distance ratios are suspect: look at them in the JSON file."
)
MEASURED = (  # on 10,000 faces of 40x40 and 10,000 scenes of 32x32, 1,000 of them changed
    ("unchanged", "100 %", "100 %"),
    ("brightness times 0.7, 0.8, 0.9", "100 %", "100 %"),
    ("brightness times 1.1, 1.2, 1.3 (white is cut off)", "100, 99, 95 %", "100, 99, 96 %"),
    ("10, 20, 30 % of white added", "100, 98, 80 %", "100, 98, 86 %"),
    ("10, 20, 30 % of white taken away (black is cut off)", "100, 91, 48 %", "100, 95, 68 %"),
    ("JPEG of quality 90, 70, 50, 30", "100, 100, 100, 95 %", "100, 100, 99, 94 %"),
    ("noise of 2, 5, 10 % of white", "100, 51, 0 %", "99, 67, 3 %"),
    ("half the resolution", "5 %", "12 %"),
    ("shifted by one pixel", "0 %", "1 %"),
    ("none: unseen photographs", "0 of 1,000", "0 of 1,000"),
)
STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { text-align: left; padding: 0.2rem 1rem 0.2rem 0; vertical-align: top; }
tr { border-bottom: 1px solid #8884; } .sheet { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; width: 200px; } figcaption { font-size: 0.75rem; overflow-wrap: anywhere; }
img { width: 96px; image-rendering: pixelated; }
"""


def assess_folders(
    samples: str, train: str, unseen: str | None = None, twin: str | None = None, out: str | Path = "assessment"
) -> list[str]:
    """Compare folders or arrays of images, write the page and the JSON file, and return the findings as lines."""
    out = Path(out).expanduser()
    for name in FILES:
        if (out / name).exists():
            raise FileExistsError(f"{out / name} exists already; give another folder with --out")
    check_writable(out, "another folder with --out")
    sets = _read({"samples": samples, "train": train, "unseen": unseen, "twin": twin})
    found = assess(**{name: images.pixels for name, images in sets.items()})
    record = _record(found, sets)
    write_text(out / FILES[1], json.dumps(record, indent=1) + "\n")
    write_text(out / FILES[0], page(found, sets, record))
    return [*record["findings"], *record["remarks"], f"page: {out / FILES[0]}", f"numbers: {out / FILES[1]}"]


def _read(sources: dict[str, str | None]) -> dict[str, ImageSet]:
    """All sets at the size of the samples, in colour if all are."""
    given = {name: source for name, source in sources.items() if source is not None}
    for name, source in given.items():
        same = [other for other in given if other < name and Path(given[other]).resolve() == Path(source).resolve()]
        if same:
            raise ValueError(f"{same[0]} and {name} are the same, {source}; they must not share images")
    sets: dict[str, ImageSet] = {}
    for name, source in given.items():
        size = sets["samples"].size if sets else None
        color = all(images.pixels.shape[1] == 3 for images in sets.values())
        sets[name] = read_images(source, name, size, name in ("train", "unseen"), color)
    if any(images.pixels.shape[1] == 1 for images in sets.values()):
        sets = {name: in_gray(images) for name, images in sets.items()}
    pair = [sets[name] for name in ("samples", "twin") if name in sets]
    if len(pair) == 2 and (pair[0].unreadable or pair[1].unreadable or len(pair[0].names) != len(pair[1].names)):
        raise ValueError(
            f"samples and twin must be pairs, in the order of their names: samples are {len(pair[0].names)} images "
            f"({len(pair[0].unreadable)} unreadable), twin {len(pair[1].names)} ({len(pair[1].unreadable)} unreadable)"
        )
    return sets


def _record(found: Assessment, sets: dict[str, ImageSet]) -> dict[str, Any]:
    """What the JSON file holds."""
    summary = found.summary()
    names = {key: list(map(_clean, images.names)) for key, images in sets.items()}
    rows = zip(
        names["samples"], found.found.index.tolist(), found.found.similarity.tolist(),
        found.found.distance_ratio.tolist(), found.copied.tolist(), found.suspect.tolist(), found.mirrored.tolist(),
        strict=True,
    )  # fmt: skip
    keys = ("sample", "nearest", "similarity", "distance_ratio", "copy", "suspect", "mirrored")
    each = [dict(zip(keys, row, strict=True)) for row in rows]
    for row in each:
        row["nearest"] = names["train"][row["nearest"]]
        row["distance_ratio"] = None if math.isnan(row["distance_ratio"]) else row["distance_ratio"]
    about = {
        name: {
            "source": _clean(images.source), "images": len(images.names), "sizes": images.sizes,
            "unreadable": list(map(_clean, images.unreadable)), "notes": list(map(_clean, images.notes)),
        }
        for name, images in sets.items()
    }  # fmt: skip
    return {
        "gahb": version("gahb"),
        "findings": findings(summary),
        "remarks": _remarks(sets),
        "sets": about,
        "size": list(sets["samples"].size),
        "channels": sets["samples"].pixels.shape[1],
        **summary,
        "unseen_copies": _unseen_copies(found, names),
        "near_duplicates": [[names["train"][i], names["train"][j]] for i, j in found.repeated()],
        "closest": [each[i] for i in found.closest()],
        "each_sample": each,
    }


def _unseen_copies(found: Assessment, names: dict[str, list[str]]) -> list[list[str]]:
    """Names of unseen images that the rule calls copies, each with its training image."""
    if found.null is None:
        return []
    where = evenly_spaced(len(names["unseen"]), len(found.null.index))
    called = memorized(found.null).nonzero().flatten()
    return [[names["unseen"][where[i]], names["train"][found.null.index[i]]] for i in called.tolist()]


def findings(summary: dict[str, Any]) -> list[str]:
    """The sentences at the head of the page, from the numbers of :meth:`gahb.assess.Assessment.summary`."""
    lines = [_copies(summary)]
    if summary["false_alarms"]:
        alarms, suspects = summary["false_alarms"], summary["suspects"]
        chance = summary["samples"] / (alarms["of"] + 1)
        lines += [
            f"The same rule calls {_counted(alarms, 'unseen images')} copies.",
            f"{suspects['count']:,} samples have a lower distance ratio than all of these unseen images; "
            f"{chance:.1f} would be expected by chance.",
        ]
    for suffix, kind in (("", ""), ("_centered", ", means removed")):
        if "excess" + suffix in summary["similarity"]:
            value = _with_interval(summary["similarity"]["excess" + suffix])
            lines.append(f"Excess similarity to the training set over as many unseen images (median{kind}): {value}.")
    lines += [_twin(kind, values) for kind, values in summary.get("twin", {}).items()]
    lines.append(
        f"{summary['near_duplicates']:,} of {summary['train']:,} training images nearly repeat an earlier one."
    )
    return lines


def _copies(summary: dict[str, Any]) -> str:
    if summary["copies"] is None:
        return (
            "The training set holds one picture. There is no second nearest image, without which nothing can be called "
            "a copy; similarities are given."
        )
    return f"{_counted(summary['copies'], 'samples')} copy a training image."


def _counted(share: dict[str, Any], noun: str) -> str:
    low, high = (f"{100 * end:.3g}" for end in share["interval"])
    return (
        f"{share['count']:,} of {share['of']:,} {noun} ({100 * share['share']:.3g} %, 95 % interval {low} to {high} %)"
    )


def _twin(kind: str, values: dict[str, Any]) -> str:
    pair, more = _with_interval(values["pair"]), _with_interval(values["pair_minus_nearest"])
    text = (
        f"Twin ({kind}): the median similarity of pairs is {pair}, and {more} above that to the nearest training image"
    )
    if values["agree"] is None:
        return f"{text}; with one sample there is no other noise to compare with."
    verdict = "The pairs are beyond both nulls" if values["agree"] else "The pairs are not beyond both nulls"
    return f"{text}; two noise images reach {values['other_noise_95']:.3f} (95th percentile). {verdict}."


def _with_interval(value: dict[str, Any]) -> str:
    if value["interval"] is None:
        return f"{value['median']:.3f}"
    return "{:.3f} ({:.3f} to {:.3f})".format(value["median"], *value["interval"])


def _remarks(sets: dict[str, ImageSet]) -> list[str]:
    """What was done to the images, and what was left out."""
    size = "{} x {}".format(*sets["samples"].size)
    remarks = []
    if sets["samples"].pixels.shape[1] == 1:
        remarks.append("Compared in gray, the mean of the channels, as not all images have colours.")
    for name, images in sets.items():
        others = [f"{key} ({n:,})" for key, n in images.sizes.most_common() if key != size]
        if others:
            more = f" and {len(others) - 3} other sizes" if len(others) > 3 else ""
            remarks.append(
                f"{name}: images of {', '.join(others[:3])}{more} were cropped to the central square and resized to "
                f"{size} with antialiasing. If the model saw another crop, give the images as it saw them."
            )
        if images.unreadable:
            some = ", ".join(map(_clean, images.unreadable[:3]))
            remarks.append(f"{name}: {len(images.unreadable):,} files could not be read, such as {some}.")
        if images.notes:
            remarks.append(f"{name}: {', '.join(map(_clean, images.notes[:3]))}{', ...' * (len(images.notes) > 3)}.")
    return remarks


def page(found: Assessment, sets: dict[str, ImageSet], record: dict[str, Any]) -> str:
    """One HTML file with all of its pictures inside."""
    rows = [
        (NAMES[key.removesuffix("_centered")], "means removed" if key.endswith("_centered") else "plain",
         _with_interval(value))
        for key, value in record["similarity"].items()
    ]  # fmt: skip
    about = [
        (name, each["source"], f"{each['images']:,} images", ", ".join(list(each["sizes"])[:3]))
        for name, each in record["sets"].items()
    ]
    repeated = [f"{a} repeats {b}" for a, b in record["near_duplicates"][:LISTED]]
    more = len(record["near_duplicates"]) - len(repeated)
    shared = [f"{a} is called a copy of {b}" for a, b in record["unseen_copies"][:LISTED]]
    parts = [
        "<h1>Does the model copy its training set?</h1>",
        _listed(record["findings"]),
        _listed(record["remarks"]),
        "<h2>The ten closest pairs</h2>",
        "<p>Left a sample, right the most similar training image.</p>",
        f'<div class="sheet">{"".join(_pairs(found, sets, record))}</div>',
        "<h2>Similarities</h2>",
        "<p>Cosine, median over samples, with 95 % bootstrap intervals.</p>",
        _table(("between", "", "median"), rows),
        "<h2>Unseen images that are called copies</h2>" if shared else "",
        "<p>If both show one picture, the sets share images, and this is no false alarm.</p>" if shared else "",
        _listed(shared),
        "<h2>Near duplicates in the training set</h2>",
        "<p>Mean-removed correlation above 0.99 at 20x20 pixels.</p>",
        _listed([*repeated, f"and {more:,} more, in the JSON file"] if more else repeated or ["none"]),
        "<h2>What the rule finds</h2>",
        f"<p>{RULE}</p><p>{CAUTION}</p>",
        "<p>Shares of copies found, of 1,000 each, measured on 10,000 training images:</p>",
        _table(("change", "faces, 40x40", "scenes, 32x32"), MEASURED),
        "<h2>What was compared</h2>",
        _table(("set", "source", "images", "sizes"), about),
        f"<p>At {record['size'][0]} x {record['size'][1]}, in {'gray' if record['channels'] == 1 else 'colour'}, by "
        f"gahb {record['gahb']}.</p>",
    ]
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    return f"{head}<title>Does the model copy?</title><style>{STYLE}</style><body>{''.join(parts)}</body></html>\n"


def _pairs(found: Assessment, sets: dict[str, ImageSet], record: dict[str, Any]) -> Iterable[str]:
    for i, row in zip(found.closest(), record["closest"], strict=True):
        pair = (sets["samples"].pixels[i], sets["train"].pixels[int(found.found.index[i])])
        ratio = "" if row["distance_ratio"] is None else f", distance ratio {row['distance_ratio']:.2f}"
        marks = [mark for mark in ("copy", "mirrored") if row[mark]] or ["suspect"] * row["suspect"]
        text = f"{row['sample']} | {row['nearest']}: similarity {row['similarity']:.3f}{ratio}"
        text += f" ({', '.join(marks)})" if marks else ""
        yield f"<figure>{''.join(map(_picture, pair))}<figcaption>{html.escape(text)}</figcaption></figure>"


def _picture(pixels: Tensor) -> str:
    array = pixels.permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(buffer, format="PNG")
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def _listed(items: Iterable[str]) -> str:
    entries = "".join(f"<li>{html.escape(item)}</li>" for item in items)
    return f"<ul>{entries}</ul>" if entries else ""


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [f"<tr>{''.join(f'<th>{html.escape(cell)}</th>' for cell in head)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def _clean(name: str) -> str:
    """A file name that may not be UTF-8, as text that can be written."""
    return name.encode("utf-8", "backslashreplace").decode()
