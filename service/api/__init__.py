"""HTTP only: routes, middleware, the JSON of requests and responses."""
