"""The versions of the tables, oldest first in `versions`; `service.sessions.migrate` runs them."""
