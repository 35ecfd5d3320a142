"""Checks each part as `serve` would use it, and says what is wrong and what to do; changes nothing.

What a start creates by itself, such as the tables of a new database, is neither created here nor
reported as a fault.
"""
