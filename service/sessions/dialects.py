"""What SQLite and PostgreSQL take in forms of their own: upserts, and statements compiled once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL, BindParameter, ClauseElement, Dialect, Table, bindparam
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.compiler import SQLCompiler

SQLITE: Dialect = URL.create("sqlite+aiosqlite").get_dialect()()
POSTGRESQL: Dialect = URL.create("postgresql+asyncpg").get_dialect()()

Insert = postgresql.Insert | sqlite.Insert
_Converter = Callable[[Any], Any]


def insert_into(table: Table, dialect: Dialect) -> Insert:
    """An INSERT that takes ON CONFLICT."""
    return sqlite.insert(table) if dialect.name == "sqlite" else postgresql.insert(table)


def parameters_of(table: Table) -> dict[str, BindParameter[Any]]:
    """A parameter for each column of a table, with the column's name and type."""
    return {column.name: bindparam(column.name, type_=column.type) for column in table.c}


@dataclass(frozen=True, slots=True)
class CompiledStatement:
    """A statement as a dialect's driver takes it: executing it renders and looks up nothing.

    Attributes:
        sql: with the driver's placeholders.
        parameters: the name of each placeholder's value, and what turns that into the driver's.
        constants: the values that the statement itself brings, by name.
    """

    sql: str
    parameters: tuple[tuple[str, _Converter | None], ...]
    constants: Mapping[str, Any]

    def bind(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """The placeholders' values in their order; names that the statement lacks are ignored.

        Raises:
            KeyError: a parameter has no value.
        """
        named = {**values, **self.constants}
        return tuple(
            named[name] if convert is None else convert(named[name])
            for name, convert in self.parameters
        )


def compile_once(statement: ClauseElement, dialect: Dialect) -> CompiledStatement:
    """Compile a statement for a dialect whose placeholders are positional."""
    compiled = statement.compile(dialect=dialect)
    if not isinstance(compiled, SQLCompiler) or compiled.positiontup is None:
        raise TypeError(f"{dialect.driver} has no positional placeholders for {statement}")
    binds = [(name, compiled.binds[name]) for name in compiled.positiontup]
    return CompiledStatement(
        str(compiled),
        tuple(
            (name, bind.type.dialect_impl(dialect).bind_processor(dialect)) for name, bind in binds
        ),
        {name: bind.value for name, bind in binds if not bind.required},
    )
