"""Which addresses the service connects to on behalf of an endpoint."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

_Address = IPv4Address | IPv6Address

# Of NAT64 within a network (RFC 8215), and of sites (RFC 3879); not every Python knows them.
_NAT64_WITHIN = IPv6Network("64:ff9b:1::/48")
_LOCAL = (_NAT64_WITHIN, IPv6Network("fec0::/10"))
# An IPv4 address in the last four bytes: of NAT64 (RFC 6052), and as IPv6 first had it (RFC 4291).
_LAST_BYTES = (IPv6Network("64:ff9b::/96"), _NAT64_WITHIN, IPv6Network("::/96"))


def fault_of_address(address: str, *, allow_private: bool) -> str | None:
    """Why the service does not connect to an IP address; None: it does.

    Args:
        allow_private: allow the addresses of private networks, and this machine's own. No endpoint
            has a link-local address, where clouds serve credentials, or a multicast one.
    """
    whole = ip_address(address.partition("%")[0])
    for each in (whole, *_embedded(whole)):
        if each.is_multicast or each.is_unspecified or each.is_link_local:
            return f"{address} is a multicast, unspecified or link-local address"
        is_private = not each.is_global or any(each in network for network in _LOCAL)
        if is_private and not allow_private:
            return f"{address} is no public address: set allow_private where the endpoint has it"
    return None


def _embedded(address: _Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that connections to an IPv6 address may end at."""
    if isinstance(address, IPv4Address):
        return ()
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    if any(address in network for network in _LAST_BYTES):
        return (IPv4Address(int(address) & 0xFFFF_FFFF),)
    return ()
