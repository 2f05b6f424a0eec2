"""The course's site, made from the README, the lessons as they are committed, and docs/: `make site`.

    .venv-site/bin/python -m toolkit.commands.site.build     # writes build/site and checks it
    .venv-site/bin/python -m toolkit.commands.site.check     # only the check

Sphinx and MyST-NB do the work (conf.py; requirements.txt says why these). Nothing is run again: outputs are those of the
notebooks, and those that answer a prediction are folded (commands/exercises/folded.py tags them). Three things are the
course's own: pictures.py gives each output a text alternative, sources.py makes a page of each file of code that a text
links to, and timelines.py makes the pages to zoom into.
"""
