"""Archives of public data sets: fetched, continued where they broke off, checked, unpacked."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """An archive and where its folder goes."""

    url: str
    md5: str
    folder: str


def fetch(archives: list[Archive], expected: str) -> None:
    """Nothing yet."""
