"""The learner's copy of the course, my/: it is made, updated and repaired here, and nothing else writes there.

What a release ships says shipped.py, and how my/ is laid out folder.py. `make start` is start.py, with earlier.py for
what was written before my/ existed. `make update` is update.py: modules.py merges exercise files by their functions
(functions.py takes a file apart, moves.py finds a function again), cells.py merges notebooks, texts.py lines of text.
`make reset`, `make watch` and `make lab` are reset.py, watch.py and lab.py.
"""
