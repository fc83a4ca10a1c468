"""The ledger of a scale, ``figures/<scale>/claims.json``: what was measured for each claim, and its verdict.

Every verdict can be recomputed from it. At ``smoke`` scale nothing is judged.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from gahb._util.files import read_json, write_text
from gahb.companion.claims import CLAIMS, Claim, find

MANY = 8
VERDICTS = ("reproduced", "not reproduced", "not tested")
STRICT = ("gpu", "paper", "paper-short")  # scales of the paper's networks and images
FIELDS = ("measured", "null", "interval", "chosen_after", "first_rule")  # what a notebook records, and what was before


def ledger_path(figures: str | Path) -> Path:
    """The ledger in a folder of figures."""
    return Path(figures) / "claims.json"


def read(figures: str | Path) -> dict[str, dict[str, Any]]:
    """The records of a ledger by claim; empty if there is none yet.

    A ledger of the first edition has neither kinds nor nulls. Its measurements of claims whose rule has changed are
    kept as ``first_rule``.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    return read_json(ledger_path(figures), _records) or {}


def _records(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    records = {row["id"]: _of_first_edition(row) if "kind" not in row else row for row in rows}
    known = {claim.id for claim in CLAIMS}
    for id, row in records.items():
        if id not in known or not isinstance(row["measured"], dict | None):
            raise TypeError("it holds no measurements by claim")
    if not records:
        raise TypeError("it is empty")
    return {id: {key: row.get(key) for key in FIELDS} for id, row in records.items()}


def _of_first_edition(row: dict[str, Any]) -> dict[str, Any]:
    if not find(row["id"]).changed or not row["measured"]:
        return row
    return {"measured": None, "first_rule": {key: row[key] for key in ("rule", "measured", "verdict")}}


def verdict(claim: Claim, record: dict[str, Any] | None, scale: str) -> tuple[str, str]:
    """``"reproduced"``, ``"not reproduced"`` or ``"not tested"``, and the reason of the last.

    Raises
    ------
    ValueError
        If the record lacks what the rule reads, or is damaged.
    """
    if reason := _why_not_tested(claim, record or {}, scale):
        return "not tested", reason
    return ("reproduced" if _holds(claim, record, scale) else "not reproduced"), ""


def null_passes(claim: Claim, record: dict[str, Any] | None, scale: str) -> bool | None:
    """Whether what the null measured passes the rule by itself, so that a verdict is no evidence against the null.

    None if the claim is not tested, or if its rule compares the two.
    """
    if claim.alone is None or _why_not_tested(claim, record or {}, scale):
        return None
    return _holds(claim, record, scale, claim.alone)


def _holds(
    claim: Claim,
    record: dict[str, Any],
    scale: str,
    alone: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> bool:
    m = _numbers(record["measured"] | {key: record.get(key) for key in ("null", "interval")})
    try:
        return bool(claim.holds(m | alone(m["null"]) if alone else m, scale in STRICT))
    except KeyError as error:
        raise ValueError(f"the ledger records nothing named {error} for claim {claim.id}; measure it again") from None
    except (TypeError, ValueError, IndexError, ArithmeticError) as error:
        raise ValueError(f"the record of claim {claim.id} is damaged ({error}); measure it again") from None


def _why_not_tested(claim: Claim, record: dict[str, Any], scale: str) -> str:
    measured = record.get("measured")
    if not measured:
        first = record.get("first_rule")
        return f"{first['verdict']} by the first edition's rule, to be measured again" if first else "not measured"
    if "not_tested" in measured:
        return str(measured["not_tested"])
    if claim.kind == "evidence" and not record.get("null"):
        return f"its null is not measured: {claim.null}"
    return "networks of this scale are too small to judge by" if scale == "smoke" else ""


def _numbers(value: Any) -> Any:
    """Read JSON null as NaN, which fails every rule."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float("nan") if value is None else value


def entry(claim: Claim, record: dict[str, Any] | None, scale: str) -> dict[str, Any]:
    """One row of the ledger."""
    judged, reason = verdict(claim, record, scale)
    about = {key: getattr(claim, key) for key in ("id", "kind", "figure", "statement", "rule")}
    found = {"verdict": judged, "reason": reason, "null_passes": null_passes(claim, record, scale)}
    return about | {key: (record or {}).get(key) for key in FIELDS} | found


def record(
    id: str,
    measured: dict[str, Any],
    scale: str,
    figures: str | Path,
    null: dict[str, Any] | None = None,
    interval: Any = None,
    chosen_after: str | None = None,
) -> dict[str, Any]:
    """Write what was measured for a claim into the ledger, which always lists every claim.

    Parameters
    ----------
    id : str
    measured : dict
        Numbers, arrays and strings by name; ``not_tested`` is the reason why a claim cannot be judged.
    scale : str
        Name of the scale.
    figures : str or Path
        Folder of the figures of that scale.
    null : dict, optional
        What the same code measured on the claim's null.
    interval : array (2,) or (n, 2), optional
        Interval or intervals on which the verdict rests, 95 %.
    chosen_after : str, optional
        A setting that was chosen after a verdict was seen.

    Returns
    -------
    dict
        The row of the ledger.
    """
    claim, path = find(id), ledger_path(figures)
    new = {"measured": measured, "null": null, "interval": interval, "chosen_after": chosen_after}
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_name(".claims.lock")):
        known = read(figures)
        first = known.get(id, {}).get("first_rule")
        known[id] = {key: _plain(value) for key, value in new.items()} | {"first_rule": first}
        rows = [entry(claim, known.get(claim.id), scale) for claim in CLAIMS]
        write_text(path, json.dumps(rows, indent=1) + "\n")
    return entry(claim, known[id], scale)


def in_words(row: dict[str, Any]) -> str:
    """A row of the ledger as a few lines of text: statement, verdict, measurement, null, interval, rule."""
    lines = [f"claim {row['id']} ({full_verdict(row)})", row["statement"], f"rule: {row['rule']}"]
    for key in ("measured", "null", "interval", "chosen_after"):
        if row[key]:
            lines.append(f"{key.replace('_', ' ')}: {brief(row[key])}")
    return "\n   ".join(lines)


def full_verdict(row: dict[str, Any]) -> str:
    """The verdict of a row, why it was not tested, and whether the null passes too."""
    reason = f": {row['reason']}" if row["reason"] else ""
    return row["verdict"] + reason + ("; the null passes too" if row["null_passes"] else "")


def brief(value: Any) -> str:
    """Numbers, lists and dicts in a few words; of more than eight numbers the range."""
    if isinstance(value, dict):
        return "; ".join(f"{key.replace('_', ' ')} {brief(item)}" for key, item in value.items())
    if isinstance(value, list | tuple) and len(value) > MANY and all(type(item) in (int, float) for item in value):
        return f"{len(value)} values, {brief(min(value))} to {brief(max(value))}"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(brief(item) for item in value) + ")"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "-" if value is None else str(value)


def _plain(value: Any) -> Any:
    """What JSON holds, of numbers, arrays and tensors; eight digits are kept, NaN is null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str | bool | int) or value is None:
        return value
    return float(f"{float(value):.8g}") if np.isfinite(value) else None
