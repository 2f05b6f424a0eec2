"""For a class: learners hand in a report, a teacher makes a table of them, and releases solutions chapter by chapter.

`make report` is report.py; report_file.py says what a report is, and reads one as what it is: a stranger's file.
`make collect` is collect.py: reading.py goes through a folder; jobs.py says what is to be checked again and keeps the
results; running.py does so side by side, in a sandbox (sandbox.py) with rerun.py in it. table.py, summary.py and pages/
show what came out, and cells.py makes strangers' words harmless. `make release` is release.py.
"""
