"""Evaluates the expressions that the `ee` package sends: {"result": key, "values": {key: node}}."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from icehouse_server.testing.earthengine.functions import FUNCTIONS
from icehouse_server.testing.earthengine.images import EarthEngineError


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One expression while it is evaluated. Values that depend on no argument are computed once."""

    values: Mapping[str, Any]
    known: dict[str, Any]

    def reference(self, key: str, scope: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever it stands for
        """What a key of `values` stands for, inside a function or outside."""
        if key not in self.values:
            raise EarthEngineError(f"Invalid expression: no value '{key}'.")
        if scope:
            return self.node(self.values[key], scope)
        if key not in self.known:
            self.known[key] = self.node(self.values[key], scope)
        return self.known[key]

    def node(self, node: Mapping[str, Any], scope: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever it stands for
        """The value of one node."""
        kind, content = next(iter(node.items()), ("", None))
        match kind:
            case "constantValue" | "integerValue" | "bytesValue":
                return content
            case "valueReference":
                return self.reference(content, scope)
            case "argumentReference":
                if content not in scope:
                    raise EarthEngineError(f"Invalid expression: no argument '{content}'.")
                return scope[content]
            case "arrayValue":
                return [self.node(one, scope) for one in content.get("values", [])]
            case "dictionaryValue":
                return {key: self.node(one, scope) for key, one in content.get("values", {}).items()}
            case "functionDefinitionValue":
                return self._function(content, scope)
            case "functionInvocationValue":
                return self._call(content, scope)
            case _:
                raise EarthEngineError(f"Invalid expression: a node of kind '{kind}'.")

    def _function(self, content: Mapping[str, Any], scope: Mapping[str, Any]) -> Callable[..., Any]:
        names = content.get("argumentNames", [])

        def function(*arguments: Any) -> Any:  # noqa: ANN401 - whatever it maps
            return self.reference(content["body"], {**scope, **dict(zip(names, arguments, strict=True))})

        return function

    def _call(self, content: Mapping[str, Any], scope: Mapping[str, Any]) -> Any:  # noqa: ANN401 - see `node`
        name = content.get("functionName", "")
        function = FUNCTIONS.get(name)
        if function is None:
            raise EarthEngineError(f"{name}: not supported by the stand-in.")
        arguments = {key: self.node(one, scope) for key, one in content.get("arguments", {}).items()}
        try:
            inspect.signature(function).bind(**arguments)
        except TypeError as error:
            raise EarthEngineError(f"{name}: {error}, for the stand-in.") from error
        return function(**arguments)


def evaluate(expression: Mapping[str, Any]) -> Any:  # noqa: ANN401 - an image, a collection, a number, ...
    """The value of an expression.

    Raises:
        EarthEngineError: Earth Engine would refuse it, or the stand-in knows no such function.
    """
    if "values" not in expression or "result" not in expression:
        raise EarthEngineError("Invalid expression: it needs 'result' and 'values'.")
    return Evaluation(expression["values"], {}).reference(expression["result"], {})
