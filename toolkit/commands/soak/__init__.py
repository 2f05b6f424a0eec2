"""A long run of the full engine under everything that can happen to it, at random but repeatable. `make soak`.

    python -m toolkit.commands.soak --steps 20000 --seed 0

Requests arrive, are taken back, lose their blocks, end by length, end-of-sequence token or stop string, share
beginnings, use names again (refused while in use), and now and then a step raises. There are few distinct prompts, and
answers are greedy, so the library's `generate` tells once for each prompt what every request must get. A ledger books
every token and every end; at regular intervals the engine is left to become idle, and must hold nothing then: no block,
no request, no more Python objects and no more device memory than before. On the simulated GPU a race ends the run.

Read in this order: answers, faults, stage, __main__.
"""
