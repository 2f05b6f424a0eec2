"""What pip installs for pytest: the options --simgpu and --simgpu-policy. The simulated GPU is loaded if they are used.

It lies outside of the simulator's package, whose import loads torch and registers a device: that must not happen in
each run of pytest on a machine.
"""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simgpu")
    if not group.options:  # which `-p` with the simulator's own plugin has added
        group.addoption("--simgpu", action="store_true", help="run the tests on the simulated GPU; a race fails a test")
        group.addoption(
            "--simgpu-policy",
            default="eager",
            metavar="POLICY",
            help="eager (the default), lazy, random:SEED or threads",
        )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--simgpu"):
        from toolkit.simgpu import pytest_plugin

        if not config.pluginmanager.is_registered(pytest_plugin):
            config.pluginmanager.register(pytest_plugin)
