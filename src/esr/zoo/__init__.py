"""Networks in and out: published entries, anybody's files, and the one door to them.

from esr import zoo
zoo.entries("ntire2022")          # slug, team, published row, whether weights were released
net = zoo.load("ntire2022/rlfn")  # RGB in [0, 1], (N, 3, H, W) -> (N, 3, 4H, 4W)
"""

from esr.zoo.catalogue import Entry, entries, load

__all__ = ["Entry", "entries", "load"]
