"""The exercise tooling: generating, filling, checking, hints, progress, mutants and lesson notebooks.

Everything here follows from two sources: the regions marked in solutions/ and the one metadata file, exercises.toml.
"""
