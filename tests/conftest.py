"""Puts long tests first, and fails a whole run of the contract tests that left out a handler, over each protocol.

The contract tests' servers log what they serve and what they are asked (tests/contract/conftest.py hands it on);
when every file of tests/contract has passed, in one process or in several, the two are compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
CONTRACT = TESTS / "contract"
LONGEST = ("e2e", "soak", "contract", "images")
"""Folders whose files take long: begun first, they leave no process waiting for another at the end."""

# Asked for by tests on purpose, or by the SDK on its own, and rightly answered with UNIMPLEMENTED.
REFUSED = {"/google.cloud.aiplatform.v1.PredictionService/Explain"}


class Contract:
    """What the servers of the contract tests said, and which test files have passed."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.log: set[str] = set()
        self._passed: set[Path] = set()
        self._flawed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what has passed."""
        file = self._config.rootpath / report.nodeid.partition("::")[0]
        if file.parent == CONTRACT:
            self._flawed |= report.failed
            self._passed.add(file)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what the server of another process said."""
        self.log.update(getattr(node, "workeroutput", {}).get("contract", ()))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the run when a handler was never called."""
        if self.complaints():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say which."""
        for complaint in self.complaints():
            terminalreporter.write_line(f"FAILED {complaint}", red=True)

    def complaints(self) -> list[str]:
        """Handlers that no contract test called, and calls that none answered; nothing after a partial run."""
        option = self._config.option
        chosen = option.keyword or option.markexpr or option.deselect or getattr(option, "lf", False)
        partial = chosen or any("::" in argument for argument in self._config.args)
        if self._flawed or partial or self._passed != set(CONTRACT.glob("test_*.py")):
            return []
        served, called, unserved = read_calls(self.log)
        missing = [f"tests/contract never call {path} over {protocol}" for protocol, path in sorted(served - called)]
        return missing + [f"{path} was called and has no handler" for path in sorted(unserved - REFUSED)]


def read_calls(log: set[str]) -> tuple[set[tuple[str, str]], set[tuple[str, str]], set[str]]:
    """What was served and what was called, as (protocol, path), and the paths called that nothing served."""
    served, called, unserved = set(), set(), set()
    for line in log:
        match line.split():
            case ["serves", protocols, path]:
                served |= {(protocol, path) for protocol in protocols.split(",")}
            case [protocol, path]:
                called.add((protocol, path))
            case [_, path, "unserved"]:
                unserved.add(path)
    return served, called, unserved


def pytest_configure(config: pytest.Config) -> None:
    """Set up where tests are reported: in the one process, or in the one that directs the others."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Contract(config), "contract")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the folders whose files take longest first; within a folder the order stays."""
    places = {folder: place for place, folder in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.relative_to(TESTS).parts[0], len(places)))
