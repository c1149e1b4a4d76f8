"""Owns telling addresses of the public internet from all others: what a tenant names must not lead into the network
the service runs in."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_GLOBAL_UNICAST = IPv6Network("2000::/3")
# A gateway turns what comes after this prefix into IPv4 (RFC 6052): networks without IPv4 reach the rest this way.
_NAT64 = IPv6Network("64:ff9b::/96")
# What Python calls global, or did in some 3.11: tunnels to the IPv4 address within (Teredo and 6to4), documentation.
_REFUSED_6 = (IPv6Network("2001::/23"), IPv6Network("2002::/16"), IPv6Network("3fff::/20"))
# The same: protocol assignments and one public address, at which machines of two clouds ask for their secrets; 6to4.
_REFUSED_4 = (
    IPv4Network("192.0.0.0/24"),
    IPv4Network("168.63.129.16/32"),
    IPv4Network("192.88.99.0/24"),
)


def is_public(text: str) -> bool:
    """Whether an IP address is one of the public internet: not loopback, private, link-local, shared by a carrier,
    multicast, reserved or documentation, in none of the ways in which IPv6 writes IPv4. False for anything else."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return _is_public_4(address) if isinstance(address, IPv4Address) else _is_public_6(address)


def _is_public_4(address: IPv4Address) -> bool:
    # Python calls multicast global.
    return (
        address.is_global
        and not address.is_multicast
        and not any(address in network for network in _REFUSED_4)
    )


def _is_public_6(address: IPv6Address) -> bool:
    if address.ipv4_mapped is not None:
        return _is_public_4(address.ipv4_mapped)
    if address in _NAT64:
        return _is_public_4(IPv4Address(address.packed[-4:]))
    return (
        address in _GLOBAL_UNICAST
        and address.is_global
        and not any(address in network for network in _REFUSED_6)
    )
