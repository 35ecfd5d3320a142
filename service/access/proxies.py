"""Addresses of trusted proxies, whose forwarding headers are believed.

What a proxy is said to be by others is nothing to go by: anybody can send the same headers.
"""

from collections.abc import Sequence
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

_ANY = "*"


@dataclass(frozen=True, slots=True)
class Proxies:
    """Addresses.

    Attributes:
        networks: all within them are proxies.
        anybody: whoever connects is one; nobody else is for that.
    """

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    anybody: bool = False

    def trust(self, peer: str | None) -> bool:
        """Whether whoever connects from there is a proxy; None: no address is known."""
        return self.anybody or self._has(None if peer is None else address_of(peer))

    def client(self, forwarded: Sequence[str]) -> str | None:
        """The client, as the proxy that connects says: the last address that is no proxy's.

        Args:
            forwarded: the addresses of `X-Forwarded-For`, in order. Each was written by whom the
                next one is of, so that those before the client's are its own words.

        Returns:
            None where it says nothing that can be used.
        """
        client = None
        for each in reversed(forwarded):
            found = address_of(each)
            if found is None:
                break
            client = str(found)
            if not self._has(found):
                break
        return client

    def _has(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self.networks)


def proxies(named: Sequence[str]) -> Proxies:
    """Those that are named as `ERC_FORWARDED_ALLOW_IPS` has them.

    Raises:
        ValueError: one is neither an address nor a network.
    """
    networks = tuple(ip_network(each) for each in named if each != _ANY)
    return Proxies(networks, anybody=_ANY in named)


def address_of(value: str) -> Address | None:
    """The address in it, also beside a port; None: there is none."""
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
    if address.scope_id is not None:  # any text may stand there
        return None
    # As a socket of both families names a peer of the older one.
    return address.ipv4_mapped or address
