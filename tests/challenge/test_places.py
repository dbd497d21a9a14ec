"""Places from the published figures come out as published, for every edition whose rules exist."""

import csv
import math
from pathlib import Path

import pytest

from esr.challenge.places import admitted, ordinal, place, rank, score, sentence
from esr.challenge.rules import edition, editions
from esr.errors import UserError

PUBLISHED = Path(__file__).parents[2] / "experiments" / "ntire2022" / "published.csv"
TRACKS = ("main", "sub1", "sub2")


def published() -> list[dict[str, str]]:
    with PUBLISHED.open(newline="") as file:
        return list(csv.DictReader(file))


def competitors() -> list[dict[str, str]]:
    return [row for row in published() if row["main_rank"]]


def test_all_places_of_2022_come_out_as_published():
    ranked = rank(competitors())
    assert len(ranked) == 35
    for row in ranked:
        expected = {track: int(row[f"{track}_rank"]) for track in TRACKS}
        if row["team"] == "Alpan Team":  # shares the sum of MegSR, and yet was printed after it
            assert expected["sub1"] == 10
            expected["sub1"] = 9
        assert {track: row[track] for track in TRACKS} == expected, row["team"]
    sums = {row["team"]: (row["sub1_sum"], row["sub2_sum"]) for row in ranked}
    for row in competitors():
        assert sums[row["team"]] == (int(row["sub1_sum"]), int(row["sub2_sum"]))


def test_ranks_in_each_metric_come_out_as_published():
    given = {row["team"]: row for row in competitors()}
    for row in rank(competitors()):
        for metric in ("params", "flops", "acts", "mem"):
            assert row[f"{metric}_rank"] == int(given[row["team"]][f"{metric}_rank"])


def test_without_given_ranks_equal_figures_share():
    bare = [{k: v for k, v in row.items() if not k.endswith("_rank")} for row in competitors()]
    by_team = {row["team"]: row for row in rank(bare)}
    assert by_team["rainbow"]["params_rank"] == by_team["NKU-ESR"]["params_rank"] == 6
    assert all(by_team[row["team"]]["main"] == int(row["main_rank"]) for row in competitors())


def test_admission_of_2022():
    """35 were ranked; 8 were not although two of them have 29.00 dB or more on validation."""
    baselines = {"RFDN AIM2020 Winner", "IMDN_baseline"}
    for row in published():
        if row["team"] not in baselines:
            assert admitted(row) == bool(row["main_rank"]), row["team"]
    assert not admitted({"psnr_val": 28.96}, tolerance=0.0)
    assert admitted({"psnr_val": 28.996}, tolerance=0.0)  # printed as 29.00
    assert not admitted({"psnr_val": 28.94})


def test_rows_that_are_not_admitted_have_no_place_and_take_none():
    rows = [*competitors(), {**competitors()[0], "team": "low", "psnr_val": 28.0}]
    ranked = rank(rows)
    assert [ranked[-1][track] for track in TRACKS] == [None] * 3
    assert ranked[0]["main"] == 1


def test_ties_share_and_the_next_place_is_skipped():
    rows = [
        {"ave_time_ms": t, "params_m": p, "flops_g": f, "acts_m": 1, "mem_m": 1}
        for t, p, f in [(3, 1, 2), (1, 2, 1), (1, 3, 3)]
    ]
    ranked = rank(rows)
    assert [row["main"] for row in ranked] == [3, 1, 1]
    assert [row["sub1"] for row in ranked] == [1, 1, 3]
    assert [row["sub2_sum"] for row in ranked] == [3 + 1 + 2 + 1 + 1, 1 + 2 + 1 + 1 + 1, 9]


def test_a_missing_figure_leaves_only_its_tracks_without_a_place():
    rows = competitors()
    rows[0] = {**rows[0], "mem_m": ""}
    ranked = rank(rows)
    assert ranked[0]["main"] == 1
    assert ranked[0]["sub1"] == 11
    assert ranked[0]["sub2"] is None


def test_placing_ones_own_network():
    own = {"ave_time_ms": 32.0, "params_m": 0.2001, "flops_g": 12.0, "psnr_val": 29.003}
    placing = place(own, competitors())
    assert placing["of"] == 36
    assert placing["admitted"] is True
    assert placing["metrics"]["ave_time_ms"] == 4
    assert placing["metrics"]["params_m"] == 3
    assert placing["tracks"]["sub2"] is None  # no activations, no memory
    text = sentence(placing)
    assert text.startswith("would have ranked 4th of 36 in runtime, 3rd in parameters")


def test_the_winner_placed_beside_itself_shares_first():
    row = competitors()[0]
    placing = place({**row, "params_m": 0.317218}, competitors())
    assert placing["tracks"]["main"] == 1
    assert placing["metrics"]["params_m"] == 11


def test_a_network_that_falls_short_is_placed_but_not_admitted():
    placing = place({"ave_time_ms": 1.0, "psnr_val": 25.0}, competitors())
    assert placing["admitted"] is False
    assert placing["tracks"]["main"] == 1
    assert place({"ave_time_ms": 1.0}, competitors())["admitted"] is None


@pytest.mark.parametrize("year", [2024, 2025, 2026])
def test_the_baseline_scores_e_squared(year):
    rules = edition(f"ntire{year}")
    for track in rules.tracks.values():
        assert score(rules.baseline, track, rules) == pytest.approx(math.e**2)
        assert round(math.e**2, 4) == 7.3891
    assert sum(rules.tracks["main"].metrics.values()) == pytest.approx(1)
    assert admitted(rules.baseline, rules.name)


@pytest.mark.parametrize(
    ("year", "val", "test"), [(2024, 16.18, 10.89), (2025, 18.77, 14.61), (2026, 8.00, 7.47)]
)
def test_the_baseline_runtime_is_the_mean_of_both_sets(year, val, test):
    assert edition(f"ntire{year}").baseline["ave_time_ms"] == pytest.approx(
        (val + test) / 2, abs=0.0051
    )


# team, val and test PSNR, ms, params M, FLOPs G: the organisers' results of 2026
NTIRE2026 = [
    ("SPAN", 26.94, 27.01, 7.74, 0.151, 9.83), ("PDS", 26.90, 26.99, 6.70, 0.142, 9.25),
    ("RFDN_SPAN", 26.91, 26.98, 16.66, 0.346, 22.60), ("PKDSR", 26.91, 27.00, 6.80, 0.144, 9.40),
    ("DSCF_Fused", 26.92, 26.99, 7.88, 0.126, 8.22), ("DISP", 26.90, 27.02, 6.51, 0.164, 10.69),
    ("ERRN2", 26.90, 27.01, 9.37, 0.246, 16.06), ("SAFMN", 26.80, 26.91, 129.70, 0.149, 9.62),
    ("SPANV2", 26.92, 27.00, 5.24, 0.139, 1.59),
]  # fmt: skip


def rows_of_2026() -> list[dict]:
    names = ("team", "psnr_val", "psnr_test", "ave_time_ms", "params_m", "flops_g")
    return [dict(zip(names, row, strict=True)) for row in NTIRE2026]


def test_the_scores_of_2026():
    ranked = {row["team"]: row for row in rank(rows_of_2026(), "ntire2026")}
    scores = {
        "SPANV2": 3.87, "PDS": 5.83, "PKDSR": 5.99, "DISP": 6.06, "DSCF_Fused": 7.19,
        "SPAN": 7.39, "ERRN2": 14.2,
    }  # fmt: skip
    for team, expected in scores.items():
        assert ranked[team]["main_score"] == pytest.approx(
            expected, abs=0.06 if expected > 9 else 0.006
        )
    assert sorted(scores, key=lambda team: ranked[team]["main"]) == list(scores)
    assert ranked["RFDN_SPAN"]["main"] is ranked["SAFMN"]["main"] is None
    assert ranked["SPANV2"]["runtime"] == ranked["SPANV2"]["flops"] == 1
    assert ranked["DSCF_Fused"]["params"] == 1


def test_the_winner_of_2026_with_the_flops_its_parameters_imply():
    rules = edition("ntire2026")
    row = {"ave_time_ms": 5.24, "params_m": 0.139, "flops_g": 9.1}
    assert score(row, rules.tracks["main"], rules) == pytest.approx(4.37, abs=0.006)


def test_thresholds_are_compared_at_two_decimals():
    assert admitted({"psnr_val": 26.896, "psnr_test": 26.986}, "ntire2026")
    assert not admitted({"psnr_val": 26.894}, "ntire2026")
    assert not admitted({"psnr_val": 26.91, "psnr_test": 26.98}, "ntire2026")


def test_aim_2019_allows_no_metric_to_be_worse_than_the_baseline():
    base = dict(edition("aim2019").baseline)
    assert base == {"params_m": 1.517571, "psnr_val": 29.00, "ave_time_ms": 170.0}
    rows = [
        base,
        {**base, "params_m": 0.9},
        {**base, "params_m": 0.5, "ave_time_ms": 171.0},
        {**base, "ave_time_ms": 50.0, "psnr_val": 28.9},
        {**base, "psnr_val": 29.2, "ave_time_ms": 160.0},
    ]
    ranked = rank(rows, "aim2019")
    assert [row["params"] for row in ranked] == [2, 1, None, None, 2]
    assert [row["inference"] for row in ranked] == [2, 2, 4, None, 1]
    assert [row["fidelity"] for row in ranked] == [2, 2, None, 4, 1]


def test_aim_2020_ranks_each_of_five_metrics_above_29_db():
    base = edition("aim2020").baseline
    assert (base["flops_g"], base["acts_m"], base["mem_m"], base["ave_time_ms"]) == (
        166.36, 292.55, 610.0, 114.0,
    )  # fmt: skip
    imdn = {"params_m": 0.893, "flops_g": 58.53, "acts_m": 154.14, "mem_m": 120, "ave_time_ms": 50}
    ranked = rank([base, {**imdn, "psnr_val": 29.0}, {**imdn, "psnr_val": 28.98}], "aim2020")
    for track in ("runtime", "params", "flops", "acts", "memory"):
        assert [row[track] for row in ranked] == [2, 1, None]


def test_ntire_2023_ranks_depth_too():
    """DIPNet, whose released results are complete, against the baseline."""
    dipnet = {
        "psnr_val": 29.04, "params_m": 0.243, "flops_g": 14.90, "acts_m": 72.97, "convs": 39,
    }  # fmt: skip
    base = edition("ntire2023").baseline
    ranked = rank([base, dipnet], "ntire2023")
    assert [row["depth"] for row in ranked] == [2, 1]
    assert ranked[1]["params"] == ranked[1]["flops"] == ranked[1]["acts"] == 1
    assert ranked[1]["runtime"] is None  # measured on another GPU than the others


def test_an_unknown_challenge_lists_the_known():
    with pytest.raises(UserError, match=r"aim2019.*ntire2022.*ntire2026"):
        rank([], "ntire2030")
    assert set(editions()) == {
        "aim2019", "aim2020", "ntire2022", "ntire2023", "ntire2024", "ntire2025", "ntire2026",
    }  # fmt: skip


def test_ordinals():
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 22, 33, 111)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "33rd", "111th",
    ]  # fmt: skip
