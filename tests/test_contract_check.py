"""Protects the check that no handler goes untested: what is missing fails the run, whoever ran the tests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import CONTRACT, Contract

LOG = {"serves grpc,rest /a.B/Get", "serves rest storage_list", "grpc /a.B/Get", "rest /a.B/Get", "rest storage_list"}


@pytest.fixture
def contract(pytestconfig: pytest.Config) -> Contract:
    option = SimpleNamespace(keyword="", markexpr="", deselect=None)
    config: Any = SimpleNamespace(rootpath=pytestconfig.rootpath, option=option, args=["tests"])
    return Contract(config)


def report(contract: Contract, *, failed: bool = False, leave_out: str = "") -> None:
    for file in CONTRACT.glob("test_*.py"):
        if file.name != leave_out:
            nodeid = f"{file.relative_to(contract._config.rootpath)}::test"
            result: Any = SimpleNamespace(nodeid=nodeid, failed=failed)
            contract.pytest_runtest_logreport(result)


def test_a_handler_that_is_not_called_is_missed_over_each_protocol(contract: Contract) -> None:
    for process in (LOG - {"rest /a.B/Get"}, LOG - {"rest storage_list", "rest /a.B/Get"}):
        contract.pytest_testnodedown(SimpleNamespace(workeroutput={"contract": sorted(process)}))
    report(contract)
    assert contract.complaints() == ["tests/contract never call /a.B/Get over rest"]


def test_a_call_that_nothing_answers_is_noticed_though_the_sdk_goes_on(contract: Contract) -> None:
    contract.log = LOG | {"grpc /a.B/List unserved"}
    report(contract)
    assert contract.complaints() == ["/a.B/List was called and has no handler"]


def test_a_part_of_the_tests_is_not_complained_about(contract: Contract) -> None:
    contract.log = LOG - {"rest storage_list"}
    report(contract, leave_out="test_models.py")
    assert not contract.complaints()
    report(contract)
    assert contract.complaints()
    contract._config.option.keyword = "models"
    assert not contract.complaints()
