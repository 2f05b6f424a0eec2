"""The bug museum: parts of engines, each with one bug that a real engine had. Find it from what its tests say.

Each module is complete in itself and imported by its own name; the order is that of the exercises, 8.6 to 8.17.
"""
