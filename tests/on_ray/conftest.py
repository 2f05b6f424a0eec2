"""Tests on a running Ray: `make test-ray`. In an environment without Ray there is nothing to collect here."""

import importlib.util

if importlib.util.find_spec("ray") is None:
    collect_ignore_glob = ["test_*.py"]
