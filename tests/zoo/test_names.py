"""A rename table is data that reads both ways, or is refused."""

import pytest

from esr.errors import UserError
from esr.zoo.names import rename, rename_all

RULES = [
    ["head", "stem"],
    ["B{i+1}.c{j+1}_r", "blocks.{i}.convs.{j}"],
    ["B{i+1}.c5", "blocks.{i}.fuse"],
    ["{i}.tail", "tail.{i+2}"],
]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("head.weight", "stem.weight"),
        ("B1.c1_r.weight", "blocks.0.convs.0.weight"),
        ("B12.c3_r.bias", "blocks.11.convs.2.bias"),
        ("B2.c5.weight", "blocks.1.fuse.weight"),
        ("3.tail.bias", "tail.5.bias"),
        ("overhead.weight", "overhead.weight"),  # whole segments only
        ("B0.c1_r.weight", "B0.c1_r.weight"),  # there is no number below nought
        ("B1.c1_rx.weight", "B1.c1_rx.weight"),
    ],
)
def test_both_ways(theirs, ours):
    assert rename(theirs, RULES) == ours
    assert rename(ours, RULES, backward=True) == theirs


def test_rules_apply_in_order_and_backwards_in_reverse():
    rules = [["a", "b"], ["b.c", "d"]]
    assert rename("a.c", rules) == "d"
    assert rename("d", rules, backward=True) == "a.c"


def test_collision_is_refused():
    with pytest.raises(UserError, match="not reversible"):
        rename_all({"a.x": 1, "b.x": 2}, [["a", "b"]])


def test_one_way_street_is_refused_and_named():
    with pytest.raises(UserError, match=r"not reversible: fuse\.weight"):
        rename_all({"fuse.weight": 1, "c.weight": 2}, [["other", "fuse"]])


def test_values_follow_their_names():
    state = {"B1.c5.weight": 1, "B2.c5.weight": 2, "head.bias": 3}
    ours = rename_all(state, RULES)
    assert ours == {"blocks.0.fuse.weight": 1, "blocks.1.fuse.weight": 2, "stem.bias": 3}
    assert rename_all(ours, RULES, backward=True) == state
