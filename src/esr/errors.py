"""The one exception whose message is meant for the user: found, expected, what to type."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Wrong input of a user. The command line prints its message alone, without a traceback."""


def near(word: str, known: Iterable[str], prefix: str = "") -> str:
    """`; did you mean PREFIX...?` with the known word that is closest; empty if none is close."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {prefix}{close[0]}?" if close else ""
