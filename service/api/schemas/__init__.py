"""The JSON of requests and responses, as pydantic models and typed dicts.

Those of responses serve the documentation. `service.api.limits` checks configurable lengths.
"""
