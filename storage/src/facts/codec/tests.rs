use std::ops::RangeBounds as _;

use proptest::{prelude::*, sample};

use super::*;

/// What the parts of a key are, in their order.
type Parts = (String, String, (bool, Vec<u8>), u64);

fn parts() -> impl Strategy<Value = Parts> {
    let repositories = sample::select(vec![
        "cgr.dev/a",
        "cgr.dev/a-b",
        "cgr.dev/a/b",
        "cgr.dev/a0",
        "cgr.dev:5000/a",
        "docker.io/library/nginx",
    ]);
    let digests = (any::<bool>(), prop::collection::vec(any::<u8>(), 64));
    let numbers = prop_oneof![0_u64..4, any::<u64>()];
    (repositories.prop_map(str::to_owned), "[a-z0-9_][a-z0-9._-]{0,3}", digests, numbers)
}

fn digest((long, raw): &(bool, Vec<u8>)) -> Digest {
    let (name, length) = if *long { ("sha512", 64) } else { ("sha256", 32) };
    let hex = hex::encode(&raw[..length]);
    format!("{name}:{hex}").parse().unwrap()
}

fn key((repository, tag, raw, number): &Parts) -> Vec<u8> {
    Encoder::repository(&repository.parse().unwrap())
        .tag(&tag.parse().unwrap())
        .digest(&digest(raw))
        .number(*number)
        .finish()
}

proptest! {
    #[test]
    fn every_part_is_read_back(parts in parts(), text in ".*", byte in any::<u8>()) {
        let (repository, tag, raw, number) = &parts;
        let bytes = Encoder::repository(&repository.parse().unwrap())
            .digest(&digest(raw))
            .text(&text)
            .text(tag)
            .byte(byte)
            .time(UnixTime::from_millis(*number))
            .finish();
        let mut decoder = Decoder::new(Table::Tags, &bytes);
        prop_assert_eq!(&decoder.repository().unwrap().to_string(), repository);
        prop_assert_eq!(decoder.digest().unwrap(), digest(raw));
        prop_assert_eq!(decoder.text().unwrap(), text);
        prop_assert_eq!(&decoder.text().unwrap(), tag);
        prop_assert_eq!(decoder.byte().unwrap(), byte);
        prop_assert_eq!(decoder.time().unwrap().as_millis(), *number);
        decoder.finish().unwrap();
    }

    #[test]
    fn keys_are_equal_only_when_their_parts_are_and_none_begins_another(a in parts(), b in parts()) {
        let (first, second) = (key(&a), key(&b));
        let truncated = |(repository, tag, raw, number): Parts| (repository, tag, digest(&raw), number);
        let same = truncated(a) == truncated(b);
        prop_assert_eq!(first == second, same);
        prop_assert!(same || !(first.starts_with(&second) || second.starts_with(&first)));
    }

    #[test]
    fn keys_are_in_order_of_their_parts(a in parts(), b in parts()) {
        let order = |(repository, tag, (long, raw), number): Parts| {
            let length = if long { 64 } else { 32 };
            (repository.into_bytes(), tag.into_bytes(), long, raw[..length].to_vec(), number)
        };
        prop_assert_eq!(key(&a).cmp(&key(&b)), order(a).cmp(&order(b)));
    }

    #[test]
    fn a_prefix_holds_the_keys_that_begin_with_it_and_no_others(
        prefix in prop::collection::vec(prop_oneof![Just(0xff_u8), any::<u8>()], 0..4),
        key in prop::collection::vec(prop_oneof![Just(0xff_u8), any::<u8>()], 0..6),
        other in prop::collection::vec(prop_oneof![Just(0xff_u8), any::<u8>()], 0..6),
    ) {
        let range = Encoder::default().raw(&prefix).prefix();
        prop_assert_eq!(range.contains(&key), key.starts_with(&prefix));
        let longer = [key.as_slice(), &[0]].concat();
        for other in [&other, &prefix, &key, &longer] {
            let after = Encoder::default().raw(&prefix).prefix_after(key.clone());
            prop_assert_eq!(after.contains(other), other.starts_with(&prefix) && *other > key);
        }
    }

    #[test]
    fn nothing_read_makes_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let decoder = || Decoder::new(Table::Tags, &bytes);
        drop(decoder().repository());
        drop(decoder().digest());
        drop(decoder().text());
        drop(decoder().number());
        prop_assert_eq!(decoder().finish().is_ok(), bytes.is_empty());
    }

    #[test]
    fn a_value_cut_short_or_longer_is_refused(parts in parts(), cut in any::<sample::Index>()) {
        let whole = Encoder::default().text(&parts.1).digest(&digest(&parts.2)).number(parts.3).finish();
        let read = |bytes: &[u8]| -> Result<(), StoreError> {
            let mut decoder = Decoder::new(Table::Tags, bytes);
            decoder.text()?;
            decoder.digest()?;
            decoder.number()?;
            decoder.finish()
        };
        prop_assert!(read(&whole).is_ok());
        prop_assert!(read(&whole[..cut.index(whole.len())]).is_err());
        prop_assert!(read(&[whole.as_slice(), &[0]].concat()).is_err());
    }
}

#[test]
fn how_a_key_is_spelled_does_not_change() {
    let parts = ("cgr.dev/a".to_owned(), "v1".to_owned(), (false, vec![0xab; 64]), 258);
    let want = [b"cgr.dev/a\0v1\0\x01".as_slice(), &[0xab; 32], &[0, 0, 0, 0, 0, 0, 1, 2]].concat();
    assert_eq!(key(&parts), want);
}
