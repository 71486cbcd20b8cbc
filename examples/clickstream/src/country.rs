//! From an address to a country.
//!
//! The table is **a made-up sample**: it gives parts of the private range 10.0.0.0/8 and of the documentation range
//! 2001:db8::/32 to countries at random. A real service would load one of the databases that exist for this.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The country of an address, in two letters; `None` if the table does not know it.
pub fn of(ip: IpAddr) -> Option<&'static str> {
    // An IPv4 address may come in IPv6's clothes.
    let ip = ip.to_canonical();
    let after = RANGES.partition_point(|range| range.first <= ip);
    let range = &RANGES[after.checked_sub(1)?];
    (ip <= range.last).then_some(range.country)
}

/// Addresses from `first` to `last`, both included.
struct Range {
    first: IpAddr,
    last: IpAddr,
    country: &'static str,
}

const fn v4(first: u8, last: u8, country: &'static str) -> Range {
    Range {
        first: IpAddr::V4(Ipv4Addr::new(10, first, 0, 0)),
        last: IpAddr::V4(Ipv4Addr::new(10, last, 255, 255)),
        country,
    }
}

const fn v6(first: u16, last: u16, country: &'static str) -> Range {
    const ONES: u16 = u16::MAX;
    Range {
        first: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, first, 0, 0, 0, 0, 0)),
        last: IpAddr::V6(Ipv6Addr::new(
            0x2001, 0xdb8, last, ONES, ONES, ONES, ONES, ONES,
        )),
        country,
    }
}

/// Ascending, and apart from each other.
const RANGES: &[Range] = &[
    v4(0, 15, "AT"),
    v4(16, 31, "BR"),
    v4(32, 47, "CA"),
    v4(48, 63, "CZ"),
    v4(64, 79, "DE"),
    v4(80, 95, "EG"),
    v4(96, 111, "FR"),
    v4(112, 127, "IN"),
    v4(128, 143, "JP"),
    v4(144, 159, "KE"),
    v4(160, 175, "MX"),
    v4(176, 191, "NZ"),
    v4(192, 207, "PL"),
    v4(208, 223, "US"),
    v4(224, 239, "ZA"),
    v6(0x0000, 0x3fff, "DE"),
    v6(0x4000, 0x7fff, "JP"),
    v6(0x8000, 0xbfff, "US"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(RANGES.iter().all(|range| range.first <= range.last));
        assert!(RANGES.windows(2).all(|pair| pair[0].last < pair[1].first));
    }

    #[test]
    fn both_ends_of_a_range_belong_to_it() {
        for (ip, country) in [
            ("10.0.0.0", Some("AT")),
            ("10.15.255.255", Some("AT")),
            ("10.16.0.0", Some("BR")),
            ("::ffff:10.16.0.0", Some("BR")),
            ("10.239.255.255", Some("ZA")),
            ("10.240.0.0", None),
            ("9.255.255.255", None),
            ("0.0.0.0", None),
            ("2001:db8::", Some("DE")),
            ("2001:db8:bfff:ffff:ffff:ffff:ffff:ffff", Some("US")),
            ("2001:db8:c000::", None),
            ("::1", None),
        ] {
            assert_eq!(of(ip.parse().unwrap()), country, "{ip}");
        }
    }
}
