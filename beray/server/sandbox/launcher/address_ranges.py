"""Address ranges that are not reachable over the public Internet. Standard library only.

Used by the launcher for routing rules, and by the server for URLs that users supply.

Source: the IANA registries of special-purpose addresses (RFC 6890), RFC 6052 (NAT64), RFC 3056
(6to4), RFC 4380 (Teredo).
"""

from ipaddress import ip_network

NON_PUBLIC = [
    ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
        # All of IPv6 except 2000::/3. This includes mapped and translated addresses
        # (::ffff:0:0/96, 64:ff9b::/96, 64:ff9b:1::/48), unique local, link-local and multicast
        # addresses.
        "::/3", "4000::/2", "8000::/1",
        # Protocol assignments including Teredo (2001::/32), documentation, 6to4.
        "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
    )
]  # fmt: skip
