"""The hosts that the service answers for, and the proxies whose headers it trusts."""

import pytest

from service.access.addresses import Hosts, Proxies, allowed_hosts, host_of, proxies

LOOPBACK = ["localhost", "erc.localhost", "127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"]
OTHER_ADDRESSES = ["0.0.0.0", "10.0.0.5", "8.8.8.8", "2001:db8::5", "::ffff:8.8.8.8"]
OTHER_NAMES = [
    "evil.com",
    "localhost.evil.com",
    "127.0.0.1.evil.com",
    "127.0.0.1.nip.io",
    "notlocalhost",
    "localhos",
    "localhost.localdomain",
    "2130706433",
    "127.1",
    "0x7f.0.0.1",
]
INNER = proxies(["127.0.0.1", "10.0.0.0/8", "fd00::/8"])


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("localhost", "localhost"),
        ("LocalHost:8000", "localhost"),
        ("localhost.", "localhost"),
        ("localhost.:8000", "localhost"),
        ("localhost:", "localhost"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]", "::1"),
        ("[::1]:8000", "::1"),
        ("[0:0:0:0:0:0:0:1]:8000", "0:0:0:0:0:0:0:1"),
        ("Evil.com:8000", "evil.com"),
    ],
)
def test_a_host_is_read_without_its_port(value: str, host: str) -> None:
    """However it is written: in capitals, with the root's dot, with no digits after the colon."""
    assert host_of(value) == host


@pytest.mark.parametrize(
    "value",
    [
        "",
        ":8000",
        "localhost@evil.com",
        "evil.com@localhost",
        "user:password@localhost",
        "localhost, evil.com",
        "localhost evil.com",
        "localhost:8000:80",
        "localhost:http",
        "localhost/evil.com",
        "localhost?evil.com",
        "localhost#evil.com",
        "localhost\\evil.com",
        "http://localhost",
        "::1",
        "[::1",
        "::1]",
        "[localhost]",
        "[fe80::1%25eth0]",
        "[v1.a]",
        "localhost\n",
        "localhost\x00",
        "lócalhost",
        "%6cocalhost",
        "*",
        "a" * 300,
    ],
)
def test_what_is_no_host_is_not_guessed_at(value: str) -> None:
    """Two readers might take it for two hosts."""
    assert host_of(value) is None


def allowed(hosts: Hosts, values: list[str]) -> list[str]:
    return [value for value in values if hosts.allow(value)]


@pytest.mark.parametrize("keys", [True, False])
def test_a_service_for_this_machine_is_asked_for_by_its_names(keys: bool) -> None:
    """No page of another host can have one of them; whether callers have keys is no matter."""
    hosts = allowed_hosts(None, loopback=True, keys=keys)

    assert allowed(hosts, LOOPBACK + OTHER_ADDRESSES + OTHER_NAMES) == LOOPBACK


def test_without_keys_a_service_for_other_machines_is_asked_for_by_address() -> None:
    """An address leads where it says; a name leads where its owner wants."""
    hosts = allowed_hosts(None, loopback=False, keys=False)

    assert allowed(hosts, LOOPBACK + OTHER_ADDRESSES + OTHER_NAMES) == LOOPBACK + OTHER_ADDRESSES


def test_with_keys_a_service_for_other_machines_is_asked_for_as_anything() -> None:
    """A page of another host has no key."""
    hosts = allowed_hosts(None, loopback=False, keys=True)

    everything = LOOPBACK + OTHER_ADDRESSES + OTHER_NAMES
    assert allowed(hosts, everything) == everything


@pytest.mark.parametrize("keys", [True, False])
@pytest.mark.parametrize("loopback", [True, False])
def test_hosts_are_added_by_name(loopback: bool, keys: bool) -> None:
    """In any spelling; where other machines can ask, they may always ask for an address."""
    named = ("Erc.Example.org.", "*.erc.test", "192.168.1.5", "[2001:DB8::1]")
    hosts = allowed_hosts(named, loopback=loopback, keys=keys)

    given = ["erc.example.org", "a.erc.test", "a.b.erc.test", "192.168.1.5", "2001:db8:0::1"]
    others = ["a.erc.example.org", "erc.test", "evilerc.test", "erc.example.org.evil.com"]
    assert allowed(hosts, LOOPBACK + given + others + OTHER_NAMES) == LOOPBACK + given
    assert hosts.allow("10.0.0.5") is not loopback
    assert hosts.trust("erc.example.org")
    assert not hosts.trust("10.0.0.5")


def test_any_host_may_be_allowed_and_is_not_trusted_for_that() -> None:
    """With `*` whoever asks may use any name; pages of all names may not ask, though."""
    hosts = allowed_hosts(("*",), loopback=True, keys=False)

    assert allowed(hosts, OTHER_NAMES) == OTHER_NAMES
    assert not any(hosts.trust(name) for name in OTHER_NAMES)


@pytest.mark.parametrize(
    "peer", ["127.0.0.1", "10.1.2.3", "fd00::7", "::ffff:10.1.2.3", "::ffff:127.0.0.1"]
)
def test_proxies_are_believed(peer: str) -> None:
    """Also where a socket of both families names them."""
    assert INNER.trust(peer)


@pytest.mark.parametrize("peer", [None, "", "127.0.0.2", "11.0.0.1", "fe80::1", "unix:", "10"])
def test_others_are_not(peer: str | None) -> None:
    """Nor who has no address."""
    assert not INNER.trust(peer)
    assert not Proxies().trust(peer)


def test_anybody_may_be_a_proxy_where_that_is_said() -> None:
    """Whoever connects, that is."""
    everybody = proxies(["*"])

    assert everybody.trust("8.8.8.8")
    assert everybody.trust(None)


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (["8.8.8.8"], "8.8.8.8"),
        (["8.8.8.8:4711"], "8.8.8.8"),
        (["2001:db8::1"], "2001:db8::1"),
        (["[2001:db8::1]:4711"], "2001:db8::1"),
        (["8.8.8.8", "10.0.0.7"], "8.8.8.8"),
        (["1.1.1.1", "8.8.8.8", "10.0.0.7", "10.0.0.8"], "8.8.8.8"),
        (["10.0.0.9", "10.0.0.7"], "10.0.0.9"),
        (["::ffff:8.8.8.8"], "8.8.8.8"),
        (["unknown", "10.0.0.7"], "10.0.0.7"),
        (["8.8.8.8", "_hidden", "10.0.0.7"], "10.0.0.7"),
        (["8.8.8.8", "unknown"], None),
        (["localhost"], None),
        (["fe80::1%eth0\r\nforged"], None),
        (["", ""], None),
        ([], None),
    ],
)
def test_the_client_is_the_last_that_is_no_proxy(forwarded: list[str], client: str | None) -> None:
    """What stands before is what the client says of itself."""
    assert INNER.client(forwarded) == client


def test_where_anybody_is_believed_only_who_connects_is() -> None:
    """An address that somebody names is not made a proxy by that."""
    assert proxies(["*"]).client(["1.1.1.1", "8.8.8.8"]) == "8.8.8.8"
    assert proxies(["*", "10.0.0.0/8"]).client(["1.1.1.1", "8.8.8.8", "10.0.0.7"]) == "8.8.8.8"
