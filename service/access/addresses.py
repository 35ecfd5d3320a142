"""The hosts that requests may name, and the proxies whose forwarding headers are accepted.

From any other address the headers prove nothing: anybody can send them.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address

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

    names: frozenset[str | Address] = frozenset()
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


def _address(host: str) -> Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


LOOPBACK = allowed_hosts(None, loopback=True, keys=False)
"""The hosts of this machine alone."""


@dataclass(frozen=True, slots=True)
class Proxies:
    """The addresses of trusted proxies.

    Attributes:
        networks: every address within them is a proxy.
        anybody: whether every peer is a proxy; addresses in headers still are not.
    """

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    anybody: bool = False

    def trust(self, peer: str | None) -> bool:
        """Whether a peer that connects from an address is a proxy; None: it has no address."""
        return self.anybody or self._has(None if peer is None else address_of(peer))

    def client(self, forwarded: Sequence[str]) -> str | None:
        """The client's address from the headers of a trusted proxy: the last that is no proxy's.

        Args:
            forwarded: the addresses of `X-Forwarded-For`, in order. Each was added by the host of
                the next one, so the client itself controls those before its own.

        Returns:
            None if there is no valid address.
        """
        client = None
        for value in reversed(forwarded):
            address = address_of(value)
            if address is None:
                break
            client = str(address)
            if not self._has(address):
                break
        return client

    def _has(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self.networks)


def proxies(named: Sequence[str]) -> Proxies:
    """Parse the values of `ERC_FORWARDED_ALLOW_IPS`.

    Raises:
        ValueError: a value is neither an address nor a network.
    """
    networks = tuple(ip_network(network) for network in named if network != _ANY)
    return Proxies(networks, anybody=_ANY in named)


def address_of(value: str) -> Address | None:
    """Parse an address, with or without a port; None if there is none."""
    value = value.strip()
    if value.startswith("["):
        value = value[1:].partition("]")[0]
    elif value.count(":") == 1:
        value = value.partition(":")[0]
    try:
        address = ip_address(value)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    if address.scope_id is not None:  # a scope may be any text
        return None
    # A dual-stack socket reports IPv4 peers as mapped addresses.
    return address.ipv4_mapped or address
