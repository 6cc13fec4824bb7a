//! Which addresses are let through, and what the operator's list means.

use super::*;

#[test]
fn every_class_of_address_that_is_not_public_is_refused() {
    for (class, addresses) in [
        (
            "private",
            "10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.1.1 fc00::1 fdff::1 fec0::1 feff::1",
        ),
        ("loopback", "127.0.0.1 127.255.255.254 ::1"),
        ("link-local", "169.254.0.1 169.254.255.255 fe80::1 febf::1"),
        ("shared with other customers of a provider", "100.64.0.1 100.127.255.255"),
        (
            "a cloud's metadata service",
            "169.254.169.254 169.254.170.2 100.100.100.200 192.0.0.192 168.63.129.16 fd00:ec2::254 fd20:ce::254",
        ),
        ("unspecified", "0.0.0.0 0.1.2.3 ::"),
        ("multicast", "224.0.0.1 239.255.255.255 ff02::1 ff0e::1"),
        ("reserved for documentation", "192.0.2.1 198.51.100.1 203.0.113.1 2001:db8::1 3fff::1"),
        ("reserved for benchmarks", "198.18.0.1 198.19.255.255"),
        // Reserved, broadcast, protocol assignments, ORCHID, discard-only, SRv6, and what nobody was given.
        (
            "reserved",
            "192.0.0.1 192.88.99.1 240.0.0.1 255.255.255.255 2001:2::1 2001:3::1 2001:10::1 2001:20::1 2001:1ff::1 \
             100::1 100:0:0:1::1 5f00::1 4000::1 8000::1 e000::1 200::1",
        ),
        (
            "an IPv6 address that stands for an IPv4 one",
            "::ffff:127.0.0.1 ::ffff:8.8.8.8 ::127.0.0.1 ::8.8.8.8 ::2 ::ffff:0:8.8.8.8 64:ff9b::8.8.8.8 \
             64:ff9b::a00:1 64:ff9b:1::1 64:ff9b:1:ffff::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2002:7f00:1::1",
        ),
    ] {
        for text in addresses.split_whitespace() {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(address::forbidden(ip), Some(class), "{text}");
        }
    }
}

#[test]
fn public_addresses_are_let_through() {
    for text in "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 \
        169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.0.3.0 192.167.255.255 192.169.0.0 \
        198.17.255.255 198.20.0.0 223.255.255.255 2001:200::1 2001:4860:4860::8888 2003::1 2606:4700::1111 2a00::1 \
        2001:db7::1 2001:db9::1 3ffe::1 3fff:1000::1"
        .split_whitespace()
    {
        assert_eq!(address::forbidden(text.parse().unwrap()), None, "{text}");
    }
}

/// Our table for IPv4 says what the standard library's own knows of it, over the edges of every /16.
#[test]
fn the_table_agrees_with_the_standard_library() {
    for high in 0..=u16::MAX {
        for low in [0, 1, 0x00ff, 0x0100, 0x7fff, 0x8000, 0xfffe, 0xffff] {
            let ip = std::net::Ipv4Addr::from_bits((u32::from(high) << 16) | low);
            let known = ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.is_multicast()
                || ip.is_documentation();
            assert!(!known || address::forbidden(ip.into()).is_some(), "{ip}");
        }
    }
}

#[test]
fn the_list_lets_through_what_it_names_and_no_more() {
    let list: AllowList =
        " 10.1.0.0/16:8080, 192.168.1.7 ,127.0.0.1:9000,[fd00::/8]:443,[::1],fe80::/10,".parse().unwrap();
    for (address, allowed) in [
        ("10.1.2.3:8080", true),
        ("10.1.2.3:8081", false),
        ("10.2.0.1:8080", false),
        ("192.168.1.7:1", true),
        ("192.168.1.8:1", false),
        ("127.0.0.1:9000", true),
        ("127.0.0.1:9001", false),
        ("127.0.0.2:9000", false),
        ("[fd12::1]:443", true),
        ("[fd12::1]:80", false),
        ("[::1]:5", true),
        ("[fe80::1]:5", true),
        ("[::ffff:10.1.2.3]:8080", true),
        ("[::ffff:10.1.2.3]:80", false),
        ("[::127.0.0.1]:9000", false),
    ] {
        assert_eq!(list.contains(address.parse().unwrap()), allowed, "{address}");
    }
    for nothing in ["", " ", " , "] {
        assert_eq!(nothing.parse::<AllowList>(), Ok(AllowList::default()));
    }
}

/// All of IPv6 is not all of IPv4 in IPv6's clothes.
#[test]
fn a_mapped_address_needs_the_address_inside_on_the_list() {
    let list: AllowList = "::/0".parse().unwrap();
    assert!(resolve::check(&list, "[::ffff:127.0.0.1]:80".parse().unwrap()).is_err());
    assert!(resolve::check(&list, "[::1]:80".parse().unwrap()).is_ok());
}

#[test]
fn a_bad_entry_is_named_with_its_fault() {
    for (entry, fault) in [
        ("localhost", "write CIDR"),
        ("10.0.0.0/33", "write CIDR"),
        ("10.0.0.1/8", "write 10.0.0.0/8"),
        ("10.0.0.0/8:0", "`0` is no port"),
        ("10.0.0.0/8:70000", "`70000` is no port"),
        ("10.0.0.0/8:", "`` is no port"),
        ("10.0.0.0/8:http", "`http` is no port"),
        ("fd00::/8:443", "write CIDR"),
        ("[fd00::/8", "the `]` is missing"),
        ("[fd00::/8]443", "after `]` comes"),
        ("[10.0.0.0/8]:80", "only IPv6"),
        ("[fd00::1/8]:80", "write fd00::/8"),
        ("::ffff:10.0.0.0/104", "the IPv4 address inside"),
        ("http://10.0.0.1", "`//10.0.0.1` is no port"),
    ] {
        let error = format!("127.0.0.1,{entry}").parse::<AllowList>().unwrap_err();
        assert_eq!(error.entry, entry);
        assert!(error.to_string().contains(fault), "{entry}: {error}");
    }
}
