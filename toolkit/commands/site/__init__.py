"""The course's site, made from the README, the lessons as they are committed, and docs/: `make site`.

    .venv-site/bin/python -m toolkit.commands.site.build     # writes build/site and checks it
    .venv-site/bin/python -m toolkit.commands.site.check     # only the check
    .venv-site/bin/python -m toolkit.commands.site.browse    # the same in a browser: narrow, dark, by keyboard

Sphinx and MyST-NB do the work (conf.py; requirements.txt says why these). No notebook is run: the outputs are those of
the committed notebooks, and those that answer a prediction are folded (commands/exercises/folded.py tags them). Three
things are the course's own: pictures.py gives each output a text alternative, sources.py makes a page of each file of
code that a text links to, and timelines.py makes the pages to zoom into.
"""
