"""To which addresses the service connects for an endpoint."""

import pytest

from service.rules.addresses import fault_of_address

PUBLIC = ("8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808")
PRIVATE = (
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd00::1"),
    # Of IPv4 in IPv6: mapped, compatible, through 6to4, through NAT64.
    *("::ffff:10.0.0.1", "::ffff:127.0.0.1", "::10.0.0.1", "2002:a00:1::1", "64:ff9b::a00:1"),
    # Of networks that translate addresses themselves, and of sites.
    *("64:ff9b:1::808:808", "fec0::1"),
    *("192.0.2.1", "198.18.0.1", "240.0.0.1", "255.255.255.255", "2001:db8::1"),
)
NEVER = (
    *("169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fe80::1", "fe80::1%eth0"),
    "64:ff9b:1::a9fe:a9fe",
    *("0.0.0.0", "::", "224.0.0.1", "ff02::1", "::ffff:0.0.0.0"),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_reached(address: str) -> None:
    assert fault_of_address(address, allow_private=False) is None


@pytest.mark.parametrize("address", PRIVATE)
def test_others_only_where_the_endpoint_allows_them(address: str) -> None:
    assert fault_of_address(address, allow_private=True) is None
    fault = fault_of_address(address, allow_private=False)
    assert fault == f"{address} is no public address: set allow_private where the endpoint has it"


@pytest.mark.parametrize("address", NEVER)
def test_credentials_of_clouds_and_whole_networks_are_never_reached(address: str) -> None:
    for allow_private in (False, True):
        assert fault_of_address(address, allow_private=allow_private) is not None
