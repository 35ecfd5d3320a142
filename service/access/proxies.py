"""Addresses of trusted proxies, whose forwarding headers are accepted.

From any other address the headers prove nothing: anybody can send them.
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
