"""PromQL expressions taken apart."""

from collections.abc import Iterator

from promql_parser import (
    AggregateExpr,
    BinaryExpr,
    Call,
    Expr,
    MatrixSelector,
    ParenExpr,
    SubqueryExpr,
    UnaryExpr,
    VectorSelector,
)


def below(expression: Expr) -> Iterator[tuple[Expr, tuple[Expr, ...]]]:
    """Every part of an expression with what it is in, the outermost first."""

    def walk(part: Expr, around: tuple[Expr, ...]) -> Iterator[tuple[Expr, tuple[Expr, ...]]]:
        yield part, around
        for inner in _parts(part):
            yield from walk(inner, (*around, part))

    return walk(expression, ())


def selectors(expression: Expr) -> Iterator[VectorSelector]:
    """Every selection of series."""
    return (part for part, _ in below(expression) if isinstance(part, VectorSelector))


def _parts(part: Expr) -> list[Expr]:
    match part:
        case BinaryExpr():
            return [part.lhs, part.rhs]
        case Call():
            return part.args
        case AggregateExpr() if part.param is not None:
            return [part.param, part.expr]
        case AggregateExpr() | ParenExpr() | UnaryExpr() | SubqueryExpr():
            return [part.expr]
        case MatrixSelector():
            return [part.vector_selector]
        case _:
            return []
