"""Host names that the service answers for.

A web page can make its own host name resolve to any address (DNS rebinding). The browser then lets
the page read the service's responses, but sends that name as `Host`. Addresses cannot be rebound.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

_MOST_CHARACTERS = 255
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_SUBDOMAINS = "*."
_ANY = "*"

_LOOPBACK_NAMES = ("localhost", "*.localhost")


@dataclass(frozen=True, slots=True)
class Hosts:
    """A set of allowed host names and addresses.

    Attributes:
        names: in lower case, without a trailing dot.
        parents: suffixes of names; all subdomains are allowed.
        addresses: whether every address is allowed.
        anything: whether every host is allowed.
    """

    names: frozenset[str | IPv4Address | IPv6Address] = frozenset()
    parents: tuple[str, ...] = ()
    addresses: bool = False
    anything: bool = False

    def allow(self, host: str) -> bool:
        """Whether the service may be addressed by this host, in the form of `host_of`."""
        return self.anything or (self.addresses and _address(host) is not None) or self.trust(host)

    def trust(self, host: str) -> bool:
        """Whether the host is this machine, or is configured by name."""
        address = _address(host)
        if address is not None:
            return address.is_loopback or address in self.names
        return host in self.names or host.endswith(self.parents)


def host_of(value: str) -> str | None:
    """The host of a `Host` header, in lower case, without port; None if it is invalid."""
    match = _HOST.fullmatch(value)
    if match is None or len(value) > _MOST_CHARACTERS:
        return None
    return _plain(match[1])


def allowed_hosts(named: Iterable[str] | None, *, loopback: bool, keys: bool) -> Hosts:
    """The hosts that the service may be addressed by, always including those of this machine.

    Args:
        named: further hosts, from `ERC_ALLOWED_HOSTS`; None: it is not set.
        loopback: whether the service listens on this machine alone.
        keys: whether callers need a key, which no foreign page has.
    """
    if named is None and keys and not loopback:
        return Hosts(anything=True)
    patterns = (*_LOOPBACK_NAMES, *(_plain(pattern) for pattern in named or ()))
    names = [pattern for pattern in patterns if not pattern.startswith(_ANY)]
    return Hosts(
        names=frozenset(_address(pattern) or pattern for pattern in names),
        parents=tuple(
            pattern.removeprefix(_ANY) for pattern in patterns if pattern.startswith(_SUBDOMAINS)
        ),
        # Probes and service discovery use addresses.
        addresses=not loopback,
        anything=_ANY in patterns,
    )


def _plain(host: str) -> str:
    return host.lower().removesuffix(".").removeprefix("[").removesuffix("]")


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


LOOPBACK = allowed_hosts(None, loopback=True, keys=False)
"""The hosts of this machine alone."""
