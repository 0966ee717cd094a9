//! Keys of the index, so that their bytes sort as the queue does.
//!
//! - `queue`: site, 0, not-before (ms, big-endian; 0: due), sequence of the original (big-endian) → entry
//! - `ids`: message id (16 bytes), site → not-before, sequence
//! - `timers`: site → ms (big-endian)

use dd_proto::id::DeliveryId;
use dd_proto::name::SiteName;

use crate::store::Position;

/// Sorts behind everything that is ever due.
pub(crate) const NEVER: u64 = u64::MAX;

pub(crate) fn queue(site: &SiteName, position: Position) -> Vec<u8> {
    let mut key = site_prefix(site);
    key.extend_from_slice(&tail(position));
    key
}

/// A site's name has no NUL, so no site's keys lie among another's.
pub(crate) fn site_prefix(site: &SiteName) -> Vec<u8> {
    let mut key = site.as_str().as_bytes().to_vec();
    key.push(0);
    key
}

/// The first key behind all of a site's.
pub(crate) fn site_end(site: &SiteName) -> Vec<u8> {
    let mut key = site.as_str().as_bytes().to_vec();
    key.push(1);
    key
}

pub(crate) fn tail(position: Position) -> [u8; 16] {
    let mut tail = [0; 16];
    tail[..8].copy_from_slice(&position.not_before_ms.to_be_bytes());
    tail[8..].copy_from_slice(&position.sequence.to_be_bytes());
    tail
}

pub(crate) fn position(tail: &[u8]) -> Option<Position> {
    let tail: &[u8; 16] = tail.try_into().ok()?;
    let word = |at: usize| u64::from_be_bytes(tail[at..at + 8].try_into().unwrap_or_default());
    Some(Position {
        not_before_ms: word(0),
        sequence: word(8),
    })
}

/// Takes a queue key apart.
pub(crate) fn parse_queue(key: &[u8]) -> Option<(SiteName, Position)> {
    let (name, position) = split_queue(key)?;
    Some((site(name)?, position))
}

/// The same, the name of the site unread.
pub(crate) fn split_queue(key: &[u8]) -> Option<(&[u8], Position)> {
    let (site, rest) = key.split_at_checked(key.len().checked_sub(17)?)?;
    Some((site, position(rest.strip_prefix(&[0])?)?))
}

pub(crate) fn site(name: &[u8]) -> Option<SiteName> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

pub(crate) fn id(delivery: &DeliveryId) -> Vec<u8> {
    let mut key = delivery.message.as_bytes().to_vec();
    key.extend_from_slice(delivery.site.as_str().as_bytes());
    key
}

/// The first key of `ids` behind all of a message's; None: there is none.
pub(crate) fn ids_end(message: &[u8; 16]) -> Option<[u8; 16]> {
    let next = u128::from_be_bytes(*message).checked_add(1)?;
    Some(next.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dd_proto::id::MessageId;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_round_trip_and_sort_as_the_queue(
            site in "[a-z0-9][a-z0-9.-]{0,20}", a: (u64, u64), b: (u64, u64),
        ) {
            let site: SiteName = site.parse().unwrap();
            let of = |(not_before_ms, sequence)| Position { not_before_ms, sequence };
            let (a, b) = (of(a), of(b));
            prop_assert_eq!(parse_queue(&queue(&site, a)), Some((site.clone(), a)));
            prop_assert_eq!(a.cmp(&b), queue(&site, a).cmp(&queue(&site, b)));
            prop_assert!(queue(&site, a) < site_end(&site));
        }

        #[test]
        fn the_range_of_a_message_has_all_its_ids_and_none_of_another(
            site in "[a-z0-9][a-z0-9.-]{0,20}",
            (message, other) in prop_oneof![9 => any::<u128>(), 1 => Just(u128::MAX)]
                .prop_flat_map(|message| {
                    let beside = [message.wrapping_add(1), message.wrapping_sub(1), message];
                    let other = prop_oneof![any::<u128>(), prop::sample::select(beside.to_vec())];
                    (Just(message), other)
                }),
        ) {
            let key_of = |message: u128| id(&DeliveryId {
                message: MessageId::from_bytes(message.to_be_bytes()),
                site: site.parse().unwrap(),
            });
            let (from, end) = (message.to_be_bytes(), ids_end(&message.to_be_bytes()));
            let is_inside = |key: Vec<u8>| {
                key[..] >= from[..] && end.is_none_or(|end| key[..] < end[..])
            };
            prop_assert!(is_inside(key_of(message)));
            prop_assert_eq!(is_inside(key_of(other)), other == message);
        }
    }
}
