"""The rules: measurements that satisfy each of them, changes that break it, and what the null measures, which must."""

import pytest

from gahb.companion import ledger
from gahb.companion.claims import CLAIMS, find

PAIRS = {"pair": 0.95, "nearest": 0.9, "pair_centered": 0.92, "nearest_centered": 0.5}
NULL_PAIRS = {"pair_95": 0.94, "pair_95_centered": 0.4}
INTERVAL = {"interval": [[0.1, 0.3], [0.01, 0.2]]}
REACHES_ZERO = {"interval": [[0.1, 0.3], [0.0, 0.2]]}

# id: (what satisfies the rule, changes each of which breaks it; the last is what the null itself measures)
CASES = {
    "1.1": ({"psnr": [30, 25, 24]}, [{"psnr": [30, 25, 25]}, {"psnr": [24, 25, 26]}]),
    "1.2": ({"psnr": [12, 20, 25]}, [{"psnr": [12, 12, 25]}]),
    "1.3": (
        {"slope": 0.91, "below_optimum_db": [0.1, 3], "interval": [0.5, 2]},
        [{"slope": 0.89}, {"slope": 1.11}, {"interval": [0, 2]}, {"below_optimum_db": [0, 0]}],
    ),
    "1.4": (
        {"range_db": 4.9, "sigma": [1, 0.3, 0.01], "worse_db": [0, 3, 9], "null": {"range_db": 20}},
        [{"range_db": 5}, {"worse_db": [0, 2.9, 9]}, {"range_db": 20, "worse_db": [0, 0, 0]}],
    ),
    "1.5": (
        {"gain_db_smallest_sigma": 2.1, "gain_db_largest_sigma": 2},
        [{"gain_db_smallest_sigma": 2}, {"gain_db_largest_sigma": 2.1}],
    ),
    "1.6": ({"largest_difference_db": 0.29}, [{"largest_difference_db": 0.5}]),
    "1.7": (
        {"N": [1, 10, 100], "nats_per_dimension": [1, 3, 0.02], "interval": [[0, 2], [2, 4], [0.01, 0.029]]},
        [{"nats_per_dimension": [4, 0.01, 0.02]}, {"interval": [[0, 2], [2, 4], [0.01, 0.031]]}],
    ),
    "1.8": (
        {"sigma": [1, 0.1, 0.01], "gain_db": [0.2, 1.1, 0.5]} | INTERVAL,
        [{"gain_db": [2, 1, 2]}, REACHES_ZERO, {"gain_db": [0, 0, 0], "interval": [[0, 0]]}],
    ),
    "2.1": (
        {"nearest_N1": 0.96, "nearest_N10": 0.97, "nearest_N1_centered": 0.96, "nearest_N10_centered": 0.96},
        [{"nearest_N10": 0.95}, {"nearest_N1_centered": 0.9}],
    ),
    "2.2": (
        {"nearest_N10": 0.9, "nearest_N100": 0.8, "nearest_N10_centered": 0.9, "nearest_N100_centered": 0.8,
         "interval": [0, 0.04]},
        [{"nearest_N100": 0.9}, {"nearest_N100_centered": 0.95}, {"interval": [0, 0.05]}],
    ),
    "2.3": (
        PAIRS | {"null": NULL_PAIRS},
        [{"pair": 0.9}, {"nearest_centered": 0.93}, {"pair": 0.94}, {"pair_centered": 0.4}],
    ),
    "2.4": (
        {"pair": [0.1, 0.9], "excess": [0.5, 0.009], "pair_centered": [0.1, 0.9], "excess_centered": [0.5, 0.029]},
        [{"pair": [0.9, 0.8]}, {"excess": [0.5, 0.01]}, {"pair_centered": [0.5, 0.4]}, {"excess_centered": [0.5, 0.03]},
         {"excess": [0.0, 0.0]}],
    ),
    "2.5": (
        {"pair": 0.9, "closest": 0.8, "pair_centered": 0.9, "closest_centered": 0.8},
        [{"pair": 0.8}, {"closest_centered": 0.91}],
    ),
    "2.7": (
        {"N": [1, 10, 100], "sigma": [0.1, 0.03, 0.01], "ratio": [[0, 0, 0], [1, 2, 3], [0.2, 0.24, 0.9]],
         "ratio_other_seed": [0.2, 0.2, 2]},
        [{"ratio": [[0, 0, 0], [1, 2, 0.9], [0.2, 0.24, 0.9]]}, {"ratio": [[0, 0, 0], [1, 2, 3], [0.2, 0.25, 0.9]]},
         {"ratio_other_seed": [0.25, 0.2, 2]}],
    ),
    "2.8": (
        {"kurtosis_test": 1.0, "interval": [0.71, 0.9], "null": {"kurtosis": 0.4}},
        [{"interval": [0.7, 0.9]}, {"interval": [0.35, 0.45]}],
    ),
    "3.1": ({"relative_error": 9e-5}, [{"relative_error": 1e-4}]),
    "3.2": (
        {"asymmetry_interval": [[0.3, 0.4], [0.5, 0.6]], "negative_fraction_interval": [[0.01, 0.02], [0.03, 0.04]],
         "null": {"asymmetry": [0.35, 0.51], "negative_fraction": [0.01, 0.03]}},
        [{"asymmetry_interval": [[0.36, 0.4], [0.5, 0.6]]},
         {"negative_fraction_interval": [[0.01, 0.02], [0.031, 0.04]]}],
    ),
    "3.3": ({"sure": [1.0, 2], "mse": [1.29, 2], "standard_error": [0.1, 0.1]}, [{"mse": [1.31, 2]}]),
    "3.4": ({"sigma": [0.05, 0.1, 1], "ratio": [9, 1.14, 0.86]}, [{"ratio": [1, 1.16, 1]}, {"ratio": [1, 1, 0.84]}]),
    "3.5": ({"rank": 79, "d": 400} | INTERVAL, [{"rank": 80}, REACHES_ZERO]),
    "3.6": ({"interval": [0.51, 0.9]}, [{"interval": [0.5, 0.9]}]),
    "3.7": (INTERVAL, [REACHES_ZERO]),
    "3.8": ({"sigma": [0.04, 0.39, 1], "loss_db": [0.1, 0.49, 3]}, [{"loss_db": [0.1, 0.5, 0]}]),
    "3.9": (INTERVAL, [REACHES_ZERO]),
    "4.1": (
        {"alpha": [1, 2, 3, 4], "slope": [0.54, 2 / 3, 0.71, 0.8]},
        [{"slope": [0.56, 2 / 3, 0.75, 0.8]}, {"slope": [0.5, 2 / 3, 0.75, 0.74]}, {"slope": [0.5, 0.5, 0.5, 0.5]}],
    ),
    "4.2": ({"slope": [0.5, 0.6]}, [{"slope": [0.6, 0.6]}]),
    "4.3": ({"gain_db": [[0.1, 2]]}, [{"gain_db": [[0, 2]]}]),
    "4.6": (
        {"alpha": [2, 4], "gain_db": [[0, 1], [2, 1]], "slope": [0.65, 0.79]},
        [{"gain_db": [[-0.1, 1], [2, 1]]}, {"slope": [0.6, 0.79]}],
    ),
    "5.1": ({"slope": 0.94}, [{"slope": 0.96}, {"slope": 0.84}, {"slope": 1.0}]),
    "5.2": ({"cosine": 0.91}, [{"cosine": 0.9}]),
    "5.3": ({"count": 6} | INTERVAL, [{"count": 5}, REACHES_ZERO]),
    "5.4": ({"sigma": [0.3, 0.1], "rank": [5, 6], "count": [5, 6]}, [{"rank": [6, 5]}, {"count": [5, 5]}]),
    "5.5": ({"cosine": 0.995, "rank": 1.1}, [{"cosine": 0.99}, {"rank": 1}]),
    "5.6": ({"cosine": 0.96, "rank": 2.1}, [{"cosine": 0.95}, {"rank": 2}]),
    "6.1": (
        {"sigma": [1, 0.3, 0.1, 0.01], "gain_of_faces_db": [9, 6, 3.1, 1], "difference_db": [-1, 1.1, 3.1, 0]},
        [{"difference_db": [0, 1, 4, 0]}, {"difference_db": [0, 2, 3, 9]}, {"difference_db": [0, 0, 0, 0]}],
    ),
    "6.2": ({"slope": 0.59, "null": {"slope": 0.7}}, [{"slope": 0.61}, {"slope": 0.7}]),
    "6.3": ({"rank": 15.1, "null": {"rank": 10}}, [{"rank": 15}, {"rank": 10}]),
    "6.4": ({"mse": 1.0, "mse_shuffled": 1 + 9e-6}, [{"mse_shuffled": 1 + 2e-5}]),
}  # fmt: skip
CASES |= {"2.6": CASES["2.3"], "4.4": CASES["3.7"], "4.5": CASES["3.9"], "4.7": CASES["3.9"]}


def record_of(case):
    """A record of the ledger; measured holds something even where a rule reads the interval alone."""
    measured = {key: value for key, value in case.items() if key not in ("null", "interval")} or {"images": 32}
    return {"measured": measured, "null": case.get("null", {"name": "null"}), "interval": case.get("interval")}


def verdict(id, case, scale="paper"):
    return ledger.verdict(find(id), record_of(case), scale)[0]


def test_every_claim_has_a_case():
    assert {claim.id for claim in CLAIMS} == set(CASES)
    assert [sum(claim.kind == kind for claim in CLAIMS) for kind in ("evidence", "identity")] == [39, 3]


@pytest.mark.parametrize("id", CASES)
def test_rule_holds_and_breaks(id):
    holds, breaks = CASES[id]
    assert verdict(id, holds) == "reproduced"
    for change in breaks:
        assert verdict(id, holds | change) == "not reproduced", change
    assert verdict(id, holds, "smoke") == "not tested"
    unmeasured = record_of(holds) | {"null": None}
    expected = "reproduced" if find(id).kind == "identity" else "not tested"
    assert ledger.verdict(find(id), unmeasured, "paper")[0] == expected


def test_rules_that_differ_at_laptop_scale():
    assert verdict("1.6", {"largest_difference_db": 0.49}, "laptop") == "reproduced"
    assert verdict("1.6", {"largest_difference_db": 0.51}, "laptop") == "not reproduced"
    for slope, expected in (
        (0.76, "reproduced"),
        (0.98, "reproduced"),
        (0.75, "not reproduced"),
        (0.99, "not reproduced"),
    ):
        assert verdict("5.1", {"slope": slope}, "laptop") == expected
    below = {"pair": 0.8, "nearest": 0.7, "pair_centered": 0.6, "nearest_centered": 0.5}
    below["null"] = {"pair_95": 0.7, "pair_95_centered": 0.5}
    assert (verdict("2.3", below, "laptop"), verdict("2.3", below)) == ("reproduced", "not reproduced")


def test_unknown_id():
    with pytest.raises(ValueError, match=r"there is no claim '9\.9'; the ids are 1\.1, 1\.2"):
        find("9.9")


# id: (what the null measured where it passes the rule too, and where it does not)
NULLS = {
    "1.1": ({"psnr": [None, 27, 23]}, {"psnr": [None, 23, 27]}),
    "1.2": ({"psnr": [12, 20, 25]}, {"psnr": [12, 20, 19]}),
    "1.3": ({"slope": 1, "below_optimum_db": 0.2}, {"slope": 1, "below_optimum_db": 0.0}),
    "1.5": ({"gain_db_smallest_sigma": 9, "gain_db_largest_sigma": 1},
            {"gain_db_smallest_sigma": 1, "gain_db_largest_sigma": 1}),
    "1.6": ({"largest_difference_db": 0.1}, {"largest_difference_db": 0.4}),
    "1.7": ({"nats_per_dimension": [5, 3, 0.02]}, {"nats_per_dimension": [5, 3, 0.04]}),
    "2.1": (CASES["2.1"][0], CASES["2.1"][0] | {"nearest_N10": 0.5}),
    "2.5": ({"pair": 0.99, "pair_centered": 0.99}, {"pair": 0.7, "pair_centered": 0.99}),
    "2.7": ({"ratio": [[0, 0, 0], [1, 2, 3], [0.1, 0.2, 0.1]]}, {"ratio": [[0, 0, 0], [1, 2, 3], [0.1, 0.3, 0.1]]}),
    "3.4": ({"ratio": [2, 1, 1]}, {"ratio": [1, 1, 1.2]}),
    "3.6": ({"spearman": 0.99}, {"spearman": 0.4}),
    "4.1": ({"slope": [0.5, 0.66, 0.75, 0.8]}, {"slope": [0.5, 0.5, 0.5, 0.5]}),
    "4.2": ({"slope": [0.4, 0.5]}, {"slope": [0.5, 0.5]}),
    "4.6": ({"slope": [0.65, 0.79]}, {"slope": [0.5, 0.5]}),
    "5.1": ({"slope": 0.9}, {"slope": 1.0}),
    "5.2": ({"cosine": 0.95}, {"cosine": 0.01}),
    "5.4": ({"rank": [5, 7]}, {"rank": [5, 5]}),
    "5.5": ({"rank": 2}, {"rank": 1}),
    "5.6": ({"rank": 3}, {"rank": 2}),
}  # fmt: skip


def test_a_null_is_judged_alone_where_the_rule_does_not_compare():
    assert {claim.id for claim in CLAIMS if claim.alone} == set(NULLS)
    assert ledger.null_passes(find("1.4"), record_of(CASES["1.4"][0]), "paper") is None


@pytest.mark.parametrize("id", NULLS)
def test_a_null_that_passes_is_marked(id):
    for null, passes in zip(NULLS[id], (True, False), strict=True):
        record = record_of(CASES[id][0] | {"null": null})
        assert ledger.null_passes(find(id), record, "paper") is passes
        assert ledger.entry(find(id), record, "paper")["null_passes"] is passes
        assert ("null passes too" in ledger.in_words(ledger.entry(find(id), record, "paper"))) is passes
    assert ledger.null_passes(find(id), record, "smoke") is None
    with pytest.raises(ValueError, match=f"records nothing named .* for claim {id}"):
        ledger.null_passes(find(id), record_of(CASES[id][0] | {"null": {"name": "x"}}), "paper")
