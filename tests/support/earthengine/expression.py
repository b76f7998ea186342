"""Evaluates the expressions that the `ee` package sends: {"result": key, "values": {key: node}}."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support.earthengine.functions import FUNCTIONS
from support.earthengine.images import EarthEngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One expression while it is evaluated. Values that depend on no argument are computed once."""

    values: Mapping[str, Any]
    known: dict[str, Any]

    def reference(self, key: str, scope: Mapping[str, Any]) -> Any:
        """What a key of `values` stands for, inside a function or outside."""
        if key not in self.values:
            raise EarthEngineError(f"Invalid expression: no value '{key}'.")
        if scope:
            return self.node(self.values[key], scope)
        if key not in self.known:
            self.known[key] = self.node(self.values[key], scope)
        return self.known[key]

    def node(self, node: Mapping[str, Any], scope: Mapping[str, Any]) -> Any:
        """The value of one node."""
        value: Any
        match node:
            case {"constantValue": value}:
                pass
            case {"valueReference": key}:
                value = self.reference(key, scope)
            case {"argumentReference": name} if name in scope:
                value = scope[name]
            case {"arrayValue": content}:
                value = [self.node(one, scope) for one in content.get("values", [])]
            case {"dictionaryValue": content}:
                value = {key: self.node(one, scope) for key, one in content.get("values", {}).items()}
            case {"functionDefinitionValue": content}:
                value = self._function(content, scope)
            case {"functionInvocationValue": content}:
                value = self._call(content, scope)
            case _:
                raise EarthEngineError(f"Invalid expression: {node}")
        return value

    def _function(self, content: Mapping[str, Any], scope: Mapping[str, Any]) -> Callable[..., Any]:
        names = content.get("argumentNames", [])

        def function(*arguments: Any) -> Any:
            return self.reference(content["body"], {**scope, **dict(zip(names, arguments, strict=True))})

        return function

    def _call(self, content: Mapping[str, Any], scope: Mapping[str, Any]) -> Any:
        name = content.get("functionName", "")
        if name == "If":
            # The other branch may well be an error, which is never met.
            branches = content["arguments"]
            chosen = "trueCase" if self.node(branches["condition"], scope) else "falseCase"
            return self.node(branches[chosen], scope) if chosen in branches else None
        function = FUNCTIONS.get(name)
        if function is None:
            raise EarthEngineError(f"{name}: not supported by the stand-in.")
        arguments = {key: self.node(one, scope) for key, one in content.get("arguments", {}).items()}
        try:
            inspect.signature(function).bind(**arguments)
        except TypeError as error:
            raise EarthEngineError(f"{name}: {error}, for the stand-in.") from error
        return function(**arguments)


def evaluate(expression: Mapping[str, Any]) -> Any:
    """The value of an expression.

    Raises:
        EarthEngineError: Earth Engine would refuse it, or the stand-in knows no such function.
    """
    if "values" not in expression or "result" not in expression:
        raise EarthEngineError("Invalid expression: it needs 'result' and 'values'.")
    return Evaluation(expression["values"], {}).reference(expression["result"], {})
