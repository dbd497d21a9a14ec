"""The one exception whose message is meant for the user: found, expected, what to type."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Wrong input of a user. The command line prints its message alone, without a traceback."""


def closest(word: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """The known word that is most like `word`; None if none is so like it (1: equal)."""
    return next(iter(difflib.get_close_matches(word, list(known), 1, likeness)), None)


def near(word: str, known: Iterable[str], prefix: str = "") -> str:
    """`; did you mean PREFIX...?` with the known word that is closest; empty if none is close."""
    meant = closest(word, known)
    return f"; did you mean {prefix}{meant}?" if meant else ""
