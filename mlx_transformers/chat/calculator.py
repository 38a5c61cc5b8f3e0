"""A calculator: arithmetic expressions, parsed by hand and computed with exact fractions."""

import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from ..core.errors import RunError

TOKEN = re.compile(r"\s*(\d+(?:\.\d*)?(?:[eE][+-]?\d{1,3})?|\.\d+|\*\*|//|[-+*/%^()!,]|[a-z]+)")
LONGEST = 300
"""Characters of an expression."""
MAX_BITS = 20_000
"""Bits of a number, beyond which a power or a factorial is refused."""
DIGITS = 12
"""Significant digits of a result that isn't a whole number."""
DEEPEST = 50
"""Brackets within each other."""

SIGNS = {"×": "*", "·": "*", "÷": "/", "−": "-", "^": "**", "π": "pi"}
FUNCTIONS = {
    "sqrt": math.sqrt, "exp": math.exp, "log": math.log, "ln": math.log, "log2": math.log2,
    "sin": math.sin, "cos": math.cos, "tan": math.tan,
}  # fmt: skip
EXACT: dict[str, Callable[[Fraction], Fraction | int]] = {
    "abs": abs,
    "round": round,
    "floor": math.floor,
    "ceil": math.ceil,
}
CONSTANTS = {"pi": Fraction(math.pi), "e": Fraction(math.e)}


class Calculator:
    """A tool that computes an expression: + - * / // % ** ! ( ), sqrt and the like."""

    name = "calculator"
    description = "Compute an arithmetic expression exactly."
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "expression": {"type": "string", "description": "such as 12 * (3 + 4.5)"},
        },
        "required": ["expression"],
    }

    def __call__(self, **arguments: object) -> str:
        """Return the value.

        Raises:
            RunError: what isn't arithmetic, a division by zero, or a number beyond all bounds.
        """
        return calculate(str(arguments["expression"]))


def calculate(expression: str) -> str:
    """Return the value of an expression: exact if whole, else rounded to 12 digits.

    Raises:
        RunError: as `Calculator`.
    """
    if len(expression) > LONGEST:
        raise RunError(f"The expression has more than {LONGEST} characters.")
    try:
        return _text(_Parser(expression).value())
    except ZeroDivisionError:
        raise RunError(f"{expression}: division by zero.") from None
    except (ValueError, OverflowError) as error:
        raise RunError(f"{expression} has no value: {error}.") from None


def _text(value: Fraction) -> str:
    if value.denominator == 1:
        if value.numerator.bit_length() > MAX_BITS // 2:
            raise OverflowError("it is too large")
        return str(value.numerator)
    return f"{float(value):.{DIGITS}g}"


class _Parser:
    """Recursive descent: sum, product, sign, power, postfix, atom."""

    def __init__(self, expression: str) -> None:
        for sign, plain in SIGNS.items():
            expression = expression.replace(sign, plain)
        # A comma between three digits and three digits groups them.
        text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", expression).strip().rstrip("=").rstrip()
        self._tokens: list[str] = []
        self._depth = 0
        at = 0
        while at < len(text):
            match = TOKEN.match(text, at)
            if match is None:
                raise RunError(f"'{text[at:].strip()[:20]}' is no arithmetic.")
            self._tokens.append(match[1])
            at = match.end()
        self._at = 0

    def value(self) -> Fraction:
        value = self._sum()
        if self._at < len(self._tokens):
            raise RunError(f"'{self._tokens[self._at]}' is in the wrong place.")
        return value

    def _next(self, *wanted: str) -> str | None:
        """The next token if it is one of these, which is then used up."""
        if self._at < len(self._tokens) and self._tokens[self._at] in wanted:
            self._at += 1
            return self._tokens[self._at - 1]
        return None

    def _sum(self) -> Fraction:
        total = self._product()
        while sign := self._next("+", "-"):
            term = self._product()
            total = total + term if sign == "+" else total - term
        return total

    def _product(self) -> Fraction:
        product = self._signed()
        while sign := self._next("*", "/", "//", "%"):
            factor = self._signed()
            if sign == "*":
                product = product * factor
            elif sign == "/":
                product = product / factor
            else:
                product = Fraction(product // factor) if sign == "//" else product % factor
            _bounded(product)
        return product

    def _signed(self) -> Fraction:
        negative = False
        while sign := self._next("+", "-"):
            negative ^= sign == "-"
        return -self._power() if negative else self._power()

    def _power(self) -> Fraction:
        base = self._postfix()
        return _power(base, self._signed()) if self._next("**") else base

    def _postfix(self) -> Fraction:
        value = self._atom()
        while self._next("!"):
            if value.denominator != 1 or not 0 <= value <= 1000:
                raise ValueError("factorials are of whole numbers from 0 to 1000")
            value = Fraction(math.factorial(value.numerator))
        return value

    def _atom(self) -> Fraction:
        if self._at >= len(self._tokens):
            raise RunError("The expression is incomplete.")
        token = self._tokens[self._at]
        self._at += 1
        if token[0].isdigit() or token[0] == ".":
            return Fraction(token)
        if token == "(":
            return self._bracketed()
        if token in CONSTANTS:
            return CONSTANTS[token]
        if token in FUNCTIONS or token in EXACT:
            if not self._next("("):
                raise RunError(f"'{token}' needs brackets: {token}(2).")
            inner = self._bracketed()
            if token in EXACT:
                return Fraction(EXACT[token](inner))
            return _rounded(FUNCTIONS[token](float(inner)))
        raise RunError(f"'{token}' is no number and no function.")

    def _bracketed(self) -> Fraction:
        self._depth += 1
        if self._depth > DEEPEST:
            raise RunError("The expression has too many brackets within each other.")
        value = self._sum()
        if not self._next(")"):
            raise RunError("A bracket is not closed.")
        self._depth -= 1
        return value


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        power = float(base) ** float(exponent)
        if isinstance(power, complex):
            raise ValueError("it is not a real number")
        return _rounded(power)
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if bits * abs(exponent.numerator) > MAX_BITS:
        raise OverflowError("it is too large")
    return base**exponent.numerator


def _bounded(value: Fraction) -> None:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise OverflowError("it is too large")


def _rounded(value: float) -> Fraction:
    """A float as the shortest decimal that is equal to it, so that sqrt(16) is whole."""
    return Fraction(repr(value))
