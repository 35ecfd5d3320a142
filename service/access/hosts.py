"""Host names that the service answers for.

A web page can have its own name lead to any address (DNS rebinding). The browser then lets it read
what is answered there, but tells by the name whose page it is. An address leads nowhere else.
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
    """Names and addresses.

    Attributes:
        names: each in lower case, without the dot at its end.
        parents: all below these are meant.
        addresses: all of them are meant, whatever they are.
        anything: every host is meant.
    """

    names: frozenset[str | IPv4Address | IPv6Address] = frozenset()
    parents: tuple[str, ...] = ()
    addresses: bool = False
    anything: bool = False

    def allow(self, host: str) -> bool:
        """Whether the service may be asked for as this host; as `host_of` gives it."""
        return self.anything or (self.addresses and _address(host) is not None) or self.trust(host)

    def trust(self, host: str) -> bool:
        """Whether it is this machine, or was named by whoever runs the service."""
        address = _address(host)
        if address is not None:
            return address.is_loopback or address in self.names
        return host in self.names or host.endswith(self.parents)


def host_of(value: str) -> str | None:
    """The host of a `Host` header, in lower case, without port; None: it is not one."""
    found = _HOST.fullmatch(value)
    if found is None or len(value) > _MOST_CHARACTERS:
        return None
    return _plain(found[1])


def allowed_hosts(named: Iterable[str] | None, *, loopback: bool, keys: bool) -> Hosts:
    """The hosts that a service may be asked for as, those of this machine always among them.

    Args:
        named: more of them, as `ERC_ALLOWED_HOSTS` has them; None: it is not set.
        loopback: it listens for this machine alone.
        keys: callers need one, which no page of another host has.
    """
    if named is None and keys and not loopback:
        return Hosts(anything=True)
    patterns = (*_LOOPBACK_NAMES, *(_plain(each) for each in named or ()))
    names = [each for each in patterns if not each.startswith(_ANY)]
    return Hosts(
        names=frozenset(_address(each) or each for each in names),
        parents=tuple(each.removeprefix(_ANY) for each in patterns if each.startswith(_SUBDOMAINS)),
        # Probes, and whatever else looks for processes, ask for their addresses.
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
