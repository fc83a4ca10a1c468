"""The ledger: each rule at both sides of its limit, written by hand from the paper's claims."""

import json
import subprocess
import sys

import numpy as np
import pytest

from gahb.companion import claims

# id: (measured that satisfies the rule, changes each of which breaks it)
CASES = {
    "1.1": ({"psnr": [30, 25, 24]}, [{"psnr": [30, 25, 25]}, {"psnr": [24, 25, 26]}]),
    "1.2": ({"psnr": [12, 20, 25]}, [{"psnr": [12, 12, 25]}]),
    "1.3": (
        {"slope": 0.91, "below_optimum_db": [0.1, 3]},
        [{"slope": 0.89}, {"slope": 1.11}, {"below_optimum_db": [0, 1]}],
    ),
    "1.4": ({"range_db": 4.9, "range_db_largest_N": 20}, [{"range_db": 5}]),
    "1.5": (
        {"gain_db_smallest_sigma": 2.1, "gain_db_largest_sigma": 2},
        [{"gain_db_smallest_sigma": 2}, {"gain_db_largest_sigma": 2.1}],
    ),
    "1.6": ({"largest_gap_db": 0.29}, [{"largest_gap_db": 0.5}]),
    "1.7": ({"N": [1, 10, 100], "nats_per_dimension": [1, 3, 2]}, [{"nats_per_dimension": [4, 2, 3]}]),
    "2.1": (
        {"nearest_N1": 0.96, "nearest_N10": 0.97, "nearest_N1_centered": 0.96, "nearest_N10_centered": 0.96},
        [{"nearest_N10": 0.95}, {"nearest_N1_centered": 0.9}],
    ),
    "2.2": (
        {"nearest_N10": 0.9, "nearest_N100": 0.8, "nearest_N10_centered": 0.9, "nearest_N100_centered": 0.8},
        [{"nearest_N100": 0.9}, {"nearest_N100_centered": 0.95}],
    ),
    "2.3": (
        {"pair": 0.95, "nearest": 0.9, "pair_centered": 0.92, "nearest_centered": 0.5},
        [{"pair": 0.9}, {"nearest_centered": 0.93}],
    ),
    "2.4": (
        {"pair": [0.1, 0.9], "nearest": [0.9, 0.5], "pair_centered": [0.1, 0.9], "nearest_centered": [0.9, 0.5]},
        [{"pair": [0.9, 0.8]}, {"nearest": [0.5, 0.6]}, {"pair_centered": [0.1, 0.4]},
         {"nearest_centered": [0.05, 0.01]}],
    ),
    "2.5": (
        {"pair": 0.9, "closest": 0.8, "pair_centered": 0.9, "closest_centered": 0.8},
        [{"pair": 0.8}, {"closest_centered": 0.91}],
    ),
    "3.1": ({"relative_error": 9e-5}, [{"relative_error": 1e-4}]),
    "3.2": (
        {
            "asymmetry_band": [[0.3, 0.4], [0.5, 0.6]], "released_asymmetry": [0.35, 0.41],
            "negative_share_band": [[0.01, 0.02], [0.03, 0.04]], "released_negative_share": [0.01, 0.03],
        },
        [{"released_asymmetry": [0.29, 0.5]}, {"released_negative_share": [0.5, 0.01]}],
    ),
    "3.3": ({"sure": [1.0, 2], "mse": [1.29, 2], "standard_error": [0.1, 0.1]}, [{"mse": [1.31, 2]}]),
    "3.4": ({"sigma": [0.05, 0.1, 1], "ratio": [9, 1.14, 0.86]}, [{"ratio": [1, 1.16, 1]}, {"ratio": [1, 1, 0.84]}]),
    "3.5": ({"rank": 79, "d": 400, "share": 0.985}, [{"rank": 80}, {"share": 0.98}]),
    "3.6": ({"spearman": 0.51}, [{"spearman": 0.5}]),
    "3.7": ({"anisotropy": 1.3, "anisotropy_dct": 1.2}, [{"anisotropy": 1.2}]),
    "4.1": (
        {"alpha": [1, 2, 3, 4], "slope": [0.54, 2 / 3, 0.71, 0.8]},
        [{"slope": [0.56, 2 / 3, 0.75, 0.8]}, {"slope": [0.5, 2 / 3, 0.75, 0.74]}],
    ),
    "4.2": ({"slope": [0.5, 0.6]}, [{"slope": [0.6, 0.6]}]),
    "4.3": ({"gain_db": [0.1, 2]}, [{"gain_db": [0, 2]}]),
    "4.4": ({"participation": [0.1, 0.2], "rank": [30, 20]}, [{"participation": [0.2, 0.1]}, {"rank": [20, 30]}]),
    "5.1": ({"slope": 0.94}, [{"slope": 0.96}, {"slope": 0.84}]),
    "5.2": ({"cosine": 0.91}, [{"cosine": 0.9}]),
    "5.3": ({"count": 6, "rank": 5.1}, [{"count": 5}, {"rank": 5}]),
    "5.4": ({"sigma": [0.3, 0.1], "rank": [5, 6]}, [{"rank": [6, 5]}]),
    "5.5": ({"cosine": 0.995, "rank": 1.1}, [{"cosine": 0.99}, {"rank": 1}]),
    "5.6": ({"cosine": 0.96}, [{"cosine": 0.95}]),
    "6.1": (
        {"sigma": [1, 0.3, 0.1, 0.01], "difference_db": [-1, 1.1, 2, 3]},
        [{"difference_db": [0, 1, 2, 3]}, {"difference_db": [0, 1.5, 1.2, 3]}],
    ),
    "6.2": ({"slope": 0.7, "slope_shuffled": 0.59}, [{"slope_shuffled": 0.61}]),
    "6.3": ({"rank": 10, "rank_shuffled": 15.1}, [{"rank_shuffled": 15}]),
    "6.4": ({"mse": 1.0, "mse_shuffled": 1 + 9e-6}, [{"mse_shuffled": 1 + 2e-5}]),
}  # fmt: skip
CASES["2.6"] = CASES["2.3"]


def test_every_claim_has_a_case():
    assert {claim.id for claim in claims.CLAIMS} == set(CASES)
    assert len(claims.CLAIMS) == 34


@pytest.mark.parametrize("id", CASES)
def test_rule_holds_and_breaks(id):
    measured, breaks = CASES[id]
    claim = claims.find(id)
    assert claims.verdict(claim, measured, "paper") == "reproduced"
    for change in breaks:
        assert claims.verdict(claim, measured | change, "paper") == "not reproduced", change
    assert claims.verdict(claim, measured, "smoke") == "not tested"
    assert claims.verdict(claim, None, "paper") == "not tested"


def test_rules_that_differ_at_laptop_scale():
    def verdict(id, **measured):
        return claims.verdict(claims.find(id), measured, "laptop")

    assert verdict("1.6", largest_gap_db=0.49) == "reproduced"
    assert verdict("1.6", largest_gap_db=0.51) == "not reproduced"
    assert verdict("5.1", slope=0.76) == verdict("5.1", slope=0.98) == "reproduced"
    assert verdict("5.1", slope=0.75) == verdict("5.1", slope=0.99) == "not reproduced"
    below_paper = {"pair": 0.8, "nearest": 0.7, "pair_centered": 0.6, "nearest_centered": 0.5}
    assert verdict("2.3", **below_paper) == "reproduced"
    assert claims.verdict(claims.find("2.3"), below_paper, "paper") == "not reproduced"


def test_a_measurement_that_is_not_a_number_is_no_success():
    assert claims.verdict(claims.find("5.2"), {"cosine": None}, "paper") == "not reproduced"
    assert claims.verdict(claims.find("1.1"), {"psnr": [None, 1.0]}, "paper") == "not reproduced"


def test_not_tested_with_a_reason():
    row = claims.entry(claims.find("3.2"), {"not_tested": "no network to compare with"}, "paper")
    assert row["verdict"] == "not tested"


def test_ledger_round_trip(tmp_path):
    """What is recorded can be judged again from the file alone; every id is there from the first record on."""
    row = claims.record("5.2", {"cosine": np.float32(0.97), "cosines": np.array([0.97, np.nan])}, "laptop", tmp_path)
    claims.record("6.4", {"mse": 0.123456789, "mse_shuffled": 0.123456789 * (1 + 1e-6)}, "laptop", tmp_path)
    rows = {row["id"]: row for row in json.loads((tmp_path / "claims.json").read_text())}
    assert list(rows) == [claim.id for claim in claims.CLAIMS]
    assert set(rows["5.2"]) == {"id", "figure", "statement", "measured", "rule", "verdict"}
    assert rows["5.2"] == row
    assert rows["5.2"]["measured"]["cosines"] == [pytest.approx(0.97, abs=1e-6), None]
    assert rows["5.2"]["verdict"] == rows["6.4"]["verdict"] == "reproduced"
    assert rows["1.1"]["verdict"] == "not tested"
    for id, measured in claims.read(tmp_path).items():
        assert claims.verdict(claims.find(id), measured, "laptop") == rows[id]["verdict"]


def test_notebooks_that_record_at_once_lose_nothing(tmp_path):
    code = "import sys; from gahb import claims; r = claims.record; ["
    code += "r(i, {'cosine': 1.0}, 'smoke', sys.argv[1]) for i in sys.argv[2:]]"
    ids = [claim.id for claim in claims.CLAIMS]
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), *ids[i::3]]) for i in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert all(claims.read(tmp_path).values())


def test_a_measurement_that_lacks_what_the_rule_reads_is_named():
    with pytest.raises(ValueError, match=r"'rank' for claim 5\.3"):
        claims.verdict(claims.find("5.3"), {"count": 7}, "laptop")


@pytest.mark.parametrize(
    ("id", "measured"),
    [("5.2", {"cosine": "0.95"}), ("1.1", {"psnr": "x"}), ("2.4", {}), ("6.3", {"rank": 0, "rank_shuffled": 1})],
)
def test_a_measurement_that_cannot_be_judged_is_named(id, measured):
    measured |= {key: [] for key in ("pair", "nearest", "pair_centered", "nearest_centered")} if id == "2.4" else {}
    with pytest.raises(ValueError, match=rf"the record of claim {id} is damaged .*; measure it again"):
        claims.verdict(claims.find(id), measured, "laptop")


def test_unknown_id():
    with pytest.raises(ValueError, match=r"9\.9"):
        claims.record("9.9", {}, "laptop", "unused")
