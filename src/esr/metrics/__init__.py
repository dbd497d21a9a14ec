"""Fidelity, complexity, runtime and memory by the protocols of the field."""
