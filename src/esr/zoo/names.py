"""A table that renames state-dict keys from a published network's words to ours, and back.

A rule is a pair of dotted names, published and ours. It matches whole segments anywhere in a key.
`{i}` stands for a number and may be shifted: `["B{i+1}", "blocks.{i}"]` turns `B1.c5.weight` into
`blocks.0.c5.weight`. Rules apply one after the other, backwards in reverse order; a table that is
not reversible on the keys at hand is refused.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from esr.errors import UserError
from esr.models.state import shorten

PLACEHOLDER = re.compile(r"\{([a-z])([+-]\d+)?\}")
T = TypeVar("T")


def rename(key: str, rules: Sequence[Sequence[str]], backward: bool = False) -> str:
    """Our name of a published key; with `backward`, the published name of ours."""
    for theirs, ours in reversed(rules) if backward else rules:
        key = _substitute(key, ours, theirs) if backward else _substitute(key, theirs, ours)
    return key


def rename_all(
    state: Mapping[str, T], rules: Sequence[Sequence[str]], backward: bool = False
) -> dict[str, T]:
    """The same values under their new names.

    Raises:
        UserError: two keys would get the same name, or one would not be led back to its old name.
    """
    renamed = {rename(key, rules, backward): value for key, value in state.items()}
    wrong = [k for k in state if rename(rename(k, rules, backward), rules, not backward) != k]
    if len(renamed) < len(state) or wrong:
        raise UserError(f"the rename table is not reversible: {shorten(wrong or state)}")
    return renamed


def _substitute(key: str, source: str, target: str) -> str:
    """Replace every occurrence of the segments `source` in `key`; shifted numbers stay >= 0."""
    pattern, shifts, end = "", {}, 0
    for hole in PLACEHOLDER.finditer(source):
        pattern += re.escape(source[end : hole.start()]) + rf"(?P<{hole[1]}>\d+)"
        shifts[hole[1]], end = int(hole[2] or 0), hole.end()
    pattern = rf"(?<![^.]){pattern}{re.escape(source[end:])}(?![^.])"

    def replacement(match: re.Match[str]) -> str:
        numbers = {name: int(match[name]) - shift for name, shift in shifts.items()}
        if min(numbers.values(), default=0) < 0:
            return match[0]
        return PLACEHOLDER.sub(lambda hole: str(numbers[hole[1]] + int(hole[2] or 0)), target)

    return re.sub(pattern, replacement, key)
