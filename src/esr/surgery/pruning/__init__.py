"""Structured channel pruning: a network of the same class with smaller numbers.

`graph` says which slices of which tensors go together, `rebuild` takes them out, `widths` knows
which constructor arguments set them, `importance` which channels matter, `budget` and `runtime`
how many of them may stay, `depth` removes whole blocks. `esr.surgery.prune` is the door.
"""
