"""Tries each part as `serve` would, and says what is wrong and what to do; changes nothing.

What a start makes by itself, such as the tables of a new database, is not made here, and is no
fault.
"""
