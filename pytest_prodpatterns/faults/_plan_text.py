"""Reads a plan back from the text that it prints.

The grammar is Python's own for these few words, so `str(plan)` is also code; `~` binds tighter than `&`, and
`&` tighter than `|`:

    any  = all ("|" all)*        all  = not ("&" not)*        not = "~" not | "(" any ")" | term
    term = name "(" [argument ("," argument)*] ")"            argument = [name "="] (number | string | bool)
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from pytest_prodpatterns.faults import _plan_terms
from pytest_prodpatterns.faults._plan import MAX_DEPTH, Plan

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

_T = TypeVar("_T")
TERMS: Final[dict[str, Callable[..., Plan]]] = {
    "always": _plan_terms.always,
    "between": _plan_terms.between,
    "calls": _plan_terms.calls,
    "every": _plan_terms.every,
    "first": _plan_terms.first,
    "never": _plan_terms.never,
    "rate": _plan_terms.rate,
    "sequence": _plan_terms.sequence,
}
_WORDS: Final[dict[str, object]] = {"True": True, "False": False, "inf": float("inf"), "nan": float("nan")}
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<number>-?(?:inf\b|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?))
    |(?P<name>[^\W\d]\w*)|(?P<string>"[^"]*"|'[^']*')|(?P<mark>[()&|~,=])|(?P<bad>\S)|(?P<end>\Z))""",
    re.VERBOSE,
)


class PlanError(ValueError):
    """A text is no plan.

    Attributes:
        text: The text.
        position: Where it goes wrong, from 1.
        problem: What is wrong there.
    """

    __module__ = "pytest_prodpatterns.faults"  # where reports and users find it

    def __init__(self, text: str, position: int, problem: str) -> None:
        super().__init__(text, position, problem)
        self.text, self.position, self.problem = text, position, problem

    def __str__(self) -> str:
        return f"{self.text!r} is no plan: at position {self.position}, {self.problem}"


class _Token(NamedTuple):
    kind: str
    text: str
    position: int

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text)


def parse(text: str) -> Plan:
    """Return the plan that `text` spells, such as `first(3) | every(10)`.

    Args:
        text: What `str(plan)` prints; white space does not matter.

    Raises:
        PlanError: When the text is no plan; it tells the position, what was expected there, and for an unknown
            name the nearest known one.
        TypeError: When `text` is no string.
    """
    if not isinstance(text, str):
        raise TypeError(f"plan.parse(): text must be a string such as 'first(3)', not {text!r}")
    return _Reader(text).read()


class _Reader:
    """A recursive-descent reader; `ahead` is always the next token that nobody took yet."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.offset = 0
        self.depth = 0
        self.ahead = self._scan()

    def read(self) -> Plan:
        plan = self._any()
        if self.ahead.kind != "end":
            raise self._expected("& or | or the end")
        return plan

    def _any(self) -> Plan:
        plan = self._all()
        while self._took("|"):
            plan = self._joined(operator.or_, plan, self._all())
        return plan

    def _all(self) -> Plan:
        plan = self._not()
        while self._took("&"):
            plan = self._joined(operator.and_, plan, self._not())
        return plan

    def _not(self) -> Plan:
        inverted = False
        while self._took("~"):
            inverted = not inverted
        plan = self._brackets() if self._took("(") else self._term()
        return self._built(plan.__invert__, self.ahead.position) if inverted else plan

    def _brackets(self) -> Plan:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise PlanError(self.text, self.ahead.position, f"brackets nest deeper than {MAX_DEPTH} levels")
        plan = self._any()
        self._take(")", "& or | or )")
        self.depth -= 1
        return plan

    def _term(self) -> Plan:
        token = self.ahead
        if token.kind != "name":
            raise self._expected("a plan such as first(3), ~ or (")
        if token.text not in TERMS:
            raise PlanError(self.text, token.position, _unknown(token.text))
        self._next()
        self._take("(", f"( after {token.text}")
        positional, named = self._arguments()
        return self._built(lambda: TERMS[token.text](*positional, **named), token.position)

    def _arguments(self) -> tuple[list[object], dict[str, object]]:
        positional: list[object] = []
        named: dict[str, object] = {}
        while not self._took(")"):
            if positional or named:
                self._take(",", ", or )")
            position, name = self.ahead.position, self._keyword()
            if name is None:
                positional.append(self._value())
            elif name in named:
                raise PlanError(self.text, position, f"{name} is given twice")
            else:
                named[name] = self._value()
        return positional, named

    def _keyword(self) -> str | None:
        token = self.ahead
        if token.kind != "name" or token.text in _WORDS:
            return None
        self._next()
        self._take("=", f"= after {token.text}")
        return token.text

    def _value(self) -> object:
        token = self.ahead
        if token.kind == "number":
            convert = int if token.text.lstrip("-").isdecimal() else float
            value: object = self._built(lambda: convert(token.text), token.position)
        elif token.kind == "string":
            value = token.text[1:-1]
        elif token.text in _WORDS:
            value = _WORDS[token.text]
        else:
            raise self._expected("a number, a string, True or False")
        self._next()
        return value

    def _joined(self, join: Callable[[Plan, Plan], Plan], left: Plan, right: Plan) -> Plan:
        return self._built(lambda: join(left, right), self.ahead.position)

    def _built(self, make: Callable[[], _T], position: int) -> _T:
        try:
            return make()
        except (TypeError, ValueError) as error:
            raise PlanError(self.text, position, str(error)) from None

    def _scan(self) -> _Token:
        match = _TOKEN.match(self.text, self.offset)
        if match is None or match.lastgroup is None:  # pragma: no cover - the pattern matches anything
            raise PlanError(self.text, self.offset + 1, "nothing can be read")
        self.offset = match.end()
        return _Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup) + 1)

    def _next(self) -> None:
        self.ahead = self._scan()

    def _took(self, mark: str) -> bool:
        if self.ahead.kind != "mark" or self.ahead.text != mark:
            return False
        self._next()
        return True

    def _take(self, mark: str, wanted: str) -> None:
        if not self._took(mark):
            raise self._expected(wanted)

    def _expected(self, wanted: str) -> PlanError:
        return PlanError(self.text, self.ahead.position, f"expected {wanted}, got {self.ahead}")


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, TERMS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(TERMS)}"
    return f"{name!r} is unknown; {hint}"
