"""The ledger: what it keeps, that every verdict can be recomputed from it, and ledgers of the first edition."""

import json
import subprocess
import sys

import numpy as np
import pytest

from gahb.companion import ledger
from gahb.companion.claims import CLAIMS, find

NULL = {"name": "tangent space of another disk", "cosine": 0.1}


def test_round_trip(tmp_path):
    """What is recorded can be judged again from the file alone; every id is there from the first record on."""
    measured = {"cosine": np.float32(0.97), "cosines": np.array([0.97, np.nan])}
    row = ledger.record("5.2", measured, "laptop", tmp_path, NULL, np.array([0.96, 0.98]), "the number of disks")
    ledger.record("6.4", {"mse": 0.123456789, "mse_shuffled": 0.123456789 * (1 + 1e-6)}, "laptop", tmp_path)
    rows = {row["id"]: row for row in json.loads((tmp_path / "claims.json").read_text())}
    assert list(rows) == [claim.id for claim in CLAIMS]
    assert rows["5.2"] == row
    assert set(row) == {"id", "kind", "figure", "statement", "rule", "measured", "null", "interval", "chosen_after",
                        "first_rule", "verdict", "reason", "null_passes"}  # fmt: skip
    assert row["measured"]["cosines"] == [pytest.approx(0.97, abs=1e-6), None]
    assert (row["null"], row["interval"], row["chosen_after"]) == (NULL, [0.96, 0.98], "the number of disks")
    assert rows["5.2"]["verdict"] == rows["6.4"]["verdict"] == "reproduced"
    assert (rows["1.1"]["verdict"], rows["1.1"]["reason"]) == ("not tested", "not measured")
    for id, record in ledger.read(tmp_path).items():
        assert ledger.verdict(find(id), record, "laptop") == (rows[id]["verdict"], rows[id]["reason"])


def test_notebooks_that_record_at_once_lose_nothing(tmp_path):
    code = "import sys; from gahb.companion.ledger import record as r; ["
    code += "r(i, {'cosine': 1.0}, 'smoke', sys.argv[1]) for i in sys.argv[2:]]"
    ids = [claim.id for claim in CLAIMS]
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), *ids[i::2]]) for i in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert all(record["measured"] for record in ledger.read(tmp_path).values())


def test_a_ledger_of_the_first_edition(tmp_path):
    """Unchanged rules keep their measurement, without a null; changed ones keep it as their first rule."""
    first = [
        {"id": "5.2", "figure": "5", "statement": "", "measured": {"cosine": 0.95}, "rule": "",
         "verdict": "reproduced"},
        {"id": "5.6", "figure": "13", "statement": "", "measured": {"cosine": 0.99}, "rule": "cosine > 0.95",
         "verdict": "reproduced"},
        {"id": "6.4", "figure": "", "statement": "", "measured": {"mse": 1.0, "mse_shuffled": 1.0}, "rule": "",
         "verdict": "reproduced"},
    ]  # fmt: skip
    (tmp_path / "claims.json").write_text(json.dumps(first))
    records = ledger.read(tmp_path)
    found = {id: ledger.verdict(find(id), record, "laptop") for id, record in records.items()}
    assert found["5.2"] == ("not tested", "its null is not measured: tangent space of another disk")
    assert found["5.6"] == ("not tested", "reproduced by the first edition's rule, to be measured again")
    assert found["6.4"] == ("reproduced", "")
    row = ledger.record("5.6", {"cosine": 0.99, "rank": 1.9}, "laptop", tmp_path, {"name": "projection", "rank": 2})
    assert row["verdict"] == "not reproduced"
    assert row["first_rule"] == {"rule": "cosine > 0.95", "measured": {"cosine": 0.99}, "verdict": "reproduced"}
    assert ledger.read(tmp_path)["5.2"]["measured"] == {"cosine": 0.95}  # nothing is lost by the new record


@pytest.mark.parametrize(("id", "measured"), [("5.2", {"cosine": None}), ("1.1", {"psnr": [None, 1.0]})])
def test_a_measurement_that_is_not_a_number_is_no_success(id, measured):
    assert ledger.verdict(find(id), {"measured": measured, "null": NULL}, "paper")[0] == "not reproduced"


def test_a_reason_given_by_a_notebook():
    record = {"measured": {"not_tested": "no network to compare with"}}
    assert ledger.verdict(find("3.2"), record, "paper") == ("not tested", "no network to compare with")


def test_a_measurement_that_lacks_what_the_rule_reads_is_named():
    with pytest.raises(ValueError, match=r"'rank' for claim 5\.6"):
        ledger.verdict(find("5.6"), {"measured": {"cosine": 0.97}, "null": NULL}, "laptop")


@pytest.mark.parametrize(("id", "measured"), [("5.2", {"cosine": "0.95"}), ("1.1", {"psnr": "x"})])
def test_a_measurement_that_cannot_be_judged_is_named(id, measured):
    with pytest.raises(ValueError, match=rf"the record of claim {id} is damaged .*; measure it again"):
        ledger.verdict(find(id), {"measured": measured, "null": NULL}, "laptop")
