"""A pytest plugin: wherever a test makes a FullEngine, it gets chapter 9's parts.

pytest -p tests.persistent_plugin tests/ch08_full_engine/test_sweeps.py
"""


def pytest_collection() -> None:
    from ch08_full_engine import FullEngine
    from ch09_persistent_batch.build import build
    from tests.ch08_full_engine import full_runs

    FullEngine.__init__.__kwdefaults__["build"] = build
    full_runs.build = build
    full_runs.CHECKED = {}
