"""Whose word for where a request comes from is taken."""

import pytest

from service.access.addresses import Proxies, proxies

INNER = proxies(["127.0.0.1", "10.0.0.0/8", "fd00::/8"])


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
