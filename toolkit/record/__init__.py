"""Measurements behind the course's figures, one module a chapter.

Each module has `record(device) -> {recording's name: rows}`; `python -m toolkit.record ch00` runs one and writes
figures/data/<device>/NAME.json, from which `python -m toolkit.figures` draws.
"""
