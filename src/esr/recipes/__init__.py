"""Recipes: several stages, each an ordinary run that takes its weights from an earlier one.

`reading` turns the `stages:` mapping into stages, `jobs` gives each a folder and an identity,
`handover` passes weights on, `plan` announces, `running` does it.
"""
