"""Authentication, scopes, quotas, and the hosts and proxies that the service trusts."""
