"""The challenge: its rules edition by edition, its tables, the places that follow from figures."""

from esr.challenge.places import place, rank
from esr.challenge.rules import edition, editions

__all__ = ["edition", "editions", "place", "rank"]
