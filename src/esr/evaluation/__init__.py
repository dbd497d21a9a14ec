"""How a network is scored: which one, against what, by which protocol."""
