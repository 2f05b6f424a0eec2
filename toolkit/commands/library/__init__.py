"""The finished engine as a library, `pip install .`: one package, stepahead, made from this repository's modules.

backend.py    what pip calls: makes the package in a temporary folder, and lets setuptools pack it
gather.py     which modules the package consists of: those that its own reach through imports
rewrite.py    a module's text as it is in the package, or why it cannot be there
stepahead/    the package's own modules: its interface, its two commands, and what replaces toolkit/course.py

In the package everything keeps its name and lies one level lower: `toolkit.errors` is `stepahead.toolkit.errors`, and
`ch09_persistent_batch` is `stepahead.ch09_persistent_batch`. So it puts one name beside the user's own packages.

pip runs this with an interpreter that has setuptools and nothing else, so it imports only the standard library and what
does the same.
"""
