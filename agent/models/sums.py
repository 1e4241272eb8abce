"""Sums in a sentence: found, computed exactly, bounded."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from decimal import Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext

WORDS = {
    "加上": "+",
    "加": "+",
    "减去": "-",
    "减": "-",
    "乘以": "*",
    "乘": "*",
    "除以": "/",
    "×": "*",
    "÷": "/",
    "^": "**",
}
ENGLISH = {"plus": "+", "minus": "-", "times": "*", "multiplied by": "*", "divided by": "/", "over": "/"}
TERM = re.compile(r"[-+]?[\d.(][\d.()+\-*/%\s,]*[\d)%]")
DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}|\d{1,2}:\d{2}|\d+\.\d+\.\d+")
ASKS = re.compile(r"算|等于|多少|=|[?？]|what|calculate|compute|how much|sum", re.IGNORECASE)
BINARY: dict[type[ast.operator], Callable[[Decimal, Decimal], Decimal]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}


def sum_in(text: str) -> tuple[str, str] | None:
    """The expression in a text and its value, or None if there is none."""
    if len(text) > 300 or DATE.search(text):
        return None
    plain = text
    for word, sign in {**WORDS, **ENGLISH}.items():
        plain = re.sub(rf"(?<=[\d)\s])\s*{re.escape(word)}\s*(?=[\d(\s])", f" {sign} ", plain, flags=re.IGNORECASE)
    found = max(TERM.findall(plain), key=len, default="").strip()
    if not re.search(r"\d\s*%?\)*\s*[+\-*/%]+\s*\(*\d", found):
        return None
    rest = plain.replace(found, "").strip(" =?？。.!")
    if rest and not ASKS.search(text):
        return None
    value = _value(found.replace(",", ""))
    return None if value is None else (" ".join(found.split()), value)


def _value(expression: str) -> str | None:
    try:
        tree = ast.parse(expression, mode="eval")
        with localcontext() as context:
            context.prec, context.Emax, context.Emin = 40, 400, -400
            result = _of(tree.body, 0).normalize()
    except (SyntaxError, ValueError, InvalidOperation, DivisionByZero, Overflow, RecursionError):
        return None
    if result == result.to_integral_value() and abs(result) < Decimal(10) ** 30:
        return str(result.to_integral_value())
    return f"{result:.10g}"


def _of(node: ast.expr, depth: int) -> Decimal:
    if depth > 40:
        raise ValueError
    match node:
        case ast.Constant(value=int() | float() as number):
            return Decimal(str(number))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_of(operand, depth + 1)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _of(operand, depth + 1)
        case ast.BinOp(op=ast.Pow(), left=left, right=right):
            power = _of(right, depth + 1)
            if abs(power) > 64:
                raise ValueError
            return _of(left, depth + 1) ** power
        case ast.BinOp(op=sign, left=left, right=right) if type(sign) in BINARY:
            return BINARY[type(sign)](_of(left, depth + 1), _of(right, depth + 1))
    raise ValueError
