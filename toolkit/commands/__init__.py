"""The room above the chapters: commands that run the engines, measure them, and check exercises.

    python -m toolkit.commands.run                      # all engines on the same prompts
    python -m toolkit.commands.bench                    # the full engine against the transformers library's
    python -m toolkit.commands.soak                     # the full engine under everything that can happen to it
    python -m toolkit.commands.exercises.check 2        # and hint, progress, generate, lessons, mutants

In library/ lies what makes a package of the finished engine when pip asks for it.

The rest of the toolkit lies below the chapters, which import it; it imports no chapter, and nothing of this room.
Whose code runs, when a name such as `ch02_continuous_batching` is imported here, was decided in toolkit/course.py.
"""
