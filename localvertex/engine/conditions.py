"""Conditions and selectors: the expressions in Common Expression Language that decide what runs and pick items.

Source: https://github.com/google/cel-spec; library: cel-python. It is imported when the first expression is met.
"""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Callable, Mapping
from typing import Any

from localvertex.engine.values import Artifact, Inputs


class ExpressionProblem(Exception):
    """An expression that is not valid CEL, or fails on the values it is given; the message quotes it."""


def check(expression: str) -> None:
    """Make sure that an expression is valid CEL.

    Raises:
        ExpressionProblem: it is not.
    """
    _program(expression)


def holds(expression: str, inputs: Inputs) -> bool:
    """Whether a trigger condition is met; it sees `inputs.parameter_values` and `inputs.artifacts`.

    Raises:
        ExpressionProblem: it cannot be evaluated, or gives no truth value.
    """
    from celpy import adapter, celtypes

    artifacts = {name: {"artifacts": [_seen(item) for item in items]} for name, items in inputs.artifacts.items()}
    scope = {"parameter_values": inputs.parameters, "parameters": inputs.parameters, "artifacts": artifacts}
    result = _evaluate(expression, {"inputs": adapter.json_to_cel(scope)})
    if not isinstance(result, celtypes.BoolType):
        raise ExpressionProblem(f"the condition {expression!r} is neither true nor false but {result}")
    return bool(result)


def select(expression: str, value: Any) -> Any:
    """What a selector picks from a value, such as one field of a loop's item: `parseJson(string_value)["a"]`.

    Raises:
        ExpressionProblem: it cannot be evaluated on this value.
    """
    from celpy import adapter, celtypes

    text = value if isinstance(value, str) else json.dumps(value)
    result = _evaluate(expression, {"string_value": celtypes.StringType(text)})
    return json.loads(json.dumps(result, cls=adapter.CELJSONEncoder))


def _seen(artifact: Artifact) -> dict[str, Any]:
    return {"name": artifact.name, "uri": artifact.uri, "metadata": artifact.metadata, "properties": artifact.metadata}


def _evaluate(expression: str, scope: Mapping[str, Any]) -> Any:
    from celpy.evaluation import CELEvalError

    try:
        return _program(expression).evaluate(dict(scope))
    except CELEvalError as error:
        raise ExpressionProblem(f"the expression {expression!r} cannot be evaluated: {error.args[0]}") from error


@functools.lru_cache(maxsize=1024)
def _program(expression: str) -> Any:
    import celpy
    from celpy.celparser import CELParseError

    environment = celpy.Environment()
    try:
        return environment.program(environment.compile(expression), functions=_functions())
    except CELParseError as error:
        raise ExpressionProblem(f"{expression!r} is not valid CEL: {str(error).splitlines()[0]}") from error


def _functions() -> dict[str, Callable[..., Any]]:
    from celpy import adapter

    comparisons = {
        "_==_": operator.eq,
        "_!=_": operator.ne,
        "_<_": operator.lt,
        "_<=_": operator.le,
        "_>_": operator.gt,
        "_>=_": operator.ge,
    }
    found = {name: _compare_numbers(function) for name, function in comparisons.items()}
    return {**found, "parseJson": lambda text: adapter.json_to_cel(json.loads(text))}


def _compare_numbers(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """CEL compares numbers across types (1 == 1.0); cel-python does not."""
    from celpy import celtypes
    from celpy.evaluation import CELEvalError

    numbers = (celtypes.IntType, celtypes.DoubleType, celtypes.UintType)

    def comparison(left: Any, right: Any) -> Any:
        # Errors are values to cel-python; to compare one as such would decide what cannot be decided.
        for operand in (left, right):
            if isinstance(operand, CELEvalError):
                return operand
        if isinstance(left, numbers) and isinstance(right, numbers) and type(left) is not type(right):
            return celtypes.BoolType(compare(float(left), float(right)))
        return celtypes.BoolType(compare(left, right))

    return comparison
