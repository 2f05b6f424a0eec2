"""What every process of a planted mistake needs: a forkserver imports this once, and each process begins with it.

Loading starts no threads of OpenMP, which a fork would not survive. The chapters are here for what they import and for
their compiled texts (toolkit/finder.py); a process then says whose code it wants, and imports them again.
"""

import importlib

from toolkit import course

PACKAGES = ["torch", "transformers.models.llama.modeling_llama", "matplotlib.pyplot", "pytest", "hypothesis"]

course.use("solutions")
for name in (*PACKAGES, "toolkit.commands.exercises.reporter", *course.chapter_names()):
    importlib.import_module(name)
