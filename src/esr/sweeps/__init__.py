"""Many runs from one command: grids and searches whose trials survive a crash, and what they gave.

A trial is an ordinary run in a folder of its own, SWEEP/NUMBER. `trial` is its side of the matter,
`study` remembers a search on disk, `search` asks it and launches, `results` tells.
"""
