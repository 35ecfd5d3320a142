"""How fast the service is beside what it is compared with: `python -m tests.bench`."""
