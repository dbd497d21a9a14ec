"""Recipes: several stages, each an ordinary run that takes its weights from an earlier one.

`stages` reads the `stages:` mapping, `jobs` gives each stage a folder and an identity, `handover`
passes weights on, `plan` announces, `run` does it.
"""
