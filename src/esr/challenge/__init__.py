"""The challenge: its rules edition by edition, its tables, the places that follow from figures."""
