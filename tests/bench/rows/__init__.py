"""One module a row of the table: `measure` warms up, measures and says what it found."""
