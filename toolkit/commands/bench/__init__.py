"""The comparison: this course's engine, the transformers library's own continuous batching, and vLLM, on one GPU.

`make bench`, or `python -m toolkit.commands.bench --help`. Read in this order:

    cases        what is asked of every engine: the same prompts, lengths and arrivals
    measured     what a run gives (tokens and the moment of each), and how runs become a row
    ours, theirs the two sides behind one interface, `EngineRunner`
    vllm_engine  a third one, where the user has it: vllm_child is run by vLLM's own Python, vllm_process talks to it
    compare      rounds in which the engines take turns, and what happens when one fails
    activity     how busy the GPU is; measured apart from the timed rounds
    targets      what our engine is to reach, beside what was seen
    settings, flash_for_transformers, board, floor, report
"""
