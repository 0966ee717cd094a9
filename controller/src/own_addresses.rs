//! The addresses that this machine has, as the kernel lists them: what a listener on `0.0.0.0` or `[::]` is reached at.
//!
//! # Invariants
//! Loopback is left out: nobody reaches it from elsewhere, and agents refuse it by themselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is there now: it changes while the program runs. Where the kernel does not say it, none.
pub(crate) fn all() -> Vec<IpAddr> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (v4, v6) = (read("/proc/net/fib_trie"), read("/proc/net/if_inet6"));
    let found = of_routes(&v4).chain(of_interfaces(&v6));
    let mut all: Vec<IpAddr> = found.filter(|ip| !ip.is_loopback()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// proc(5), `fib_trie`: below each address stands what it is; `/32 host LOCAL` is one of our own.
fn of_routes(text: &str) -> impl Iterator<Item = IpAddr> {
    let lines = text.lines().zip(text.lines().skip(1));
    lines.filter_map(|(address, what)| {
        let address = address.trim().strip_prefix("|-- ")?;
        let is_own = what.trim() == "/32 host LOCAL";
        let address: Ipv4Addr = address.parse().ok().filter(|_| is_own)?;
        Some(address.into())
    })
}

/// proc(5), `if_inet6`: each line begins with an address of 32 hexadecimal digits.
fn of_interfaces(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| {
        let digits = line.split_whitespace().next()?;
        let bits = u128::from_str_radix(digits, 16).ok()?;
        (digits.len() == 32).then(|| Ipv6Addr::from_bits(bits).into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_calls_its_own_is_found() {
        let routes = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 192.0.2.0/24 2 0 2\n        |-- 192.0.2.0\n           /24 link UNICAST\n        |-- 192.0.2.7\n           /32 host LOCAL\n        |-- 192.0.2.255\n           /32 link BROADCAST\n";
        let found: Vec<IpAddr> = of_routes(routes).collect();
        assert_eq!(found, [IpAddr::from([192, 0, 2, 7])]);
        let interfaces = "20010db8000000000000000000000007 02 40 00 80 eth0\n00000000000000000000000000000001 01 80 10 80 lo\nnothing\n";
        let found: Vec<String> = of_interfaces(interfaces).map(|ip| ip.to_string()).collect();
        assert_eq!(found, ["2001:db8::7", "::1"]);
    }
}
