"""What requests and responses look like: their JSON, as pydantic models.

Those of responses document them. Lengths that are settings are checked in `service.api.limits`.
"""
