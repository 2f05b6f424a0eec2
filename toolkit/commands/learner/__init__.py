"""The learner's copy of the course, my/: it is made, updated and repaired here, and nothing else writes there.

shipped.py knows what a release puts into my/, and folder.py how my/ is laid out. `make start` is start.py, with
earlier.py for what was written before my/ existed. `make update` is update.py, with plan.py for what becomes of each
file: modules.py merges exercise files by their functions (functions.py takes a file apart, moves.py finds a function in
another release), cells.py merges notebooks, and texts.py lines of text. `make reset`, `make watch` and `make lab` are
reset.py, watch.py and lab.py.
"""
