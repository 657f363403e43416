//! Packets whole and cut at every byte, small and large, good and damaged.

use crate::frame::MAGIC;

use super::*;

const ROWS_QUERY: u8 = 29;

/// An event with its checksum.
fn event(kind: u8, body: &[u8]) -> Vec<u8> {
    let header = Header {
        timestamp_s: 1,
        kind,
        server_id: 1,
        event_bytes: u32::try_from(HEADER_BYTES + body.len() + CHECKSUM_BYTES).unwrap(),
        end_position: 7,
        flags: 0,
    };
    let whole = [&header.to_bytes()[..], body].concat();
    let checksum = crc32fast::hash(&whole);
    [&whole[..], &checksum.to_le_bytes()].concat()
}

/// Says that checksums follow.
fn format() -> Vec<u8> {
    event(FORMAT_DESCRIPTION, &[&[0; 57][..], &[1]].concat())
}

fn packets(answer: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = answer;
    loop {
        let (payload, after) = rest.split_at(rest.len().min(PACKET_FULL));
        out.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes()[..3]);
        out.push(0);
        out.extend_from_slice(payload);
        rest = after;
        if payload.len() < PACKET_FULL {
            return out;
        }
    }
}

fn dump(events: &[Vec<u8>]) -> Vec<u8> {
    events.iter().flat_map(|event| packets(&[&[OK], &event[..]].concat())).collect()
}

/// Events by kind and length of body, parts together, and how it ended.
fn cut(bytes: &[u8], part: usize) -> (Vec<(u8, usize)>, Option<Uncut>) {
    let (mut cutter, mut buffer, mut seen) = (Cutter::default(), BytesMut::new(), Vec::new());
    for some in bytes.chunks(part) {
        buffer.extend_from_slice(some);
        loop {
            match cutter.next(&mut buffer) {
                Ok(Some(Piece::Event { header, body })) => seen.push((header.kind, body.len())),
                Ok(Some(Piece::Begin(header))) => seen.push((header.kind, 0)),
                Ok(Some(Piece::Bytes(bytes))) => seen.last_mut().unwrap().1 += bytes.len(),
                Ok(Some(Piece::End)) => {}
                Ok(None) => break,
                Err(uncut) => return (seen, Some(uncut)),
            }
        }
    }
    (seen, None)
}

#[test]
fn small_events_in_parts_of_any_size() {
    let bytes =
        dump(&[format(), event(ROWS_QUERY, b"hello"), event(TRANSACTION_PAYLOAD, b"small")]);
    let whole = cut(&bytes, bytes.len());
    assert_eq!(
        whole,
        (vec![(FORMAT_DESCRIPTION, 58), (ROWS_QUERY, 5), (TRANSACTION_PAYLOAD, 5)], None)
    );
    for part in 1..bytes.len() {
        assert_eq!(cut(&bytes, part), whole, "in parts of {part}");
    }
}

#[test]
fn large_events_over_several_packets() {
    // With kind byte, header and checksum, the second one fills its packets exactly.
    let full = PACKET_FULL - 1 - HEADER_BYTES - CHECKSUM_BYTES;
    for length in [SMALL_BYTES_MAX, full, full + 3, 2 * PACKET_FULL + 5] {
        let body = vec![7; length];
        for kind in [ROWS_QUERY, TRANSACTION_PAYLOAD] {
            let bytes = dump(&[format(), event(kind, &body), event(ROWS_QUERY, b"behind")]);
            let expected = vec![(FORMAT_DESCRIPTION, 58), (kind, length), (ROWS_QUERY, 6)];
            for part in [999_983, bytes.len()] {
                assert_eq!(cut(&bytes, part), (expected.clone(), None), "{kind} of {length}");
            }
        }
    }
}

#[test]
fn damage_is_noticed() {
    for (kind, length) in [(ROWS_QUERY, 50), (ROWS_QUERY, 2 << 20), (TRANSACTION_PAYLOAD, 2 << 20)]
    {
        let good = dump(&[format(), event(kind, &vec![7; length])]);
        let mut bytes = good.clone();
        let at = bytes.len() - 9;
        bytes[at] ^= 1;
        let (_, uncut) = cut(&bytes, 100_000);
        let Some(Uncut::Frame { position: 7, error: FrameError::Checksum { .. } }) = uncut else {
            panic!("{kind} of {length}: {uncut:?}");
        };
        // The event says that it is longer, or shorter, than its packet.
        for change in [1, u8::MAX] {
            let mut bytes = good.clone();
            let at = dump(&[format()]).len() + PACKET_HEADER + 1 + 9;
            bytes[at] = bytes[at].wrapping_add(change);
            let (_, uncut) = cut(&bytes, 100_000);
            assert!(uncut.is_some(), "{kind} of {length}");
        }
    }
}

/// However much of what is too long has come.
#[test]
fn an_event_longer_than_it_says_is_refused_at_once() {
    let mut bytes = dump(&[event(TRANSACTION_PAYLOAD, &vec![7; 2 << 20])]);
    let says = PACKET_HEADER + 1 + 9;
    bytes[says..says + 4].copy_from_slice(&100_u32.to_le_bytes());
    let seen = cut(&bytes[..bytes.len() / 2], 50);
    let Some(Uncut::Strange(_)) = seen.1 else { panic!("{seen:?}") };
    for part in [999, 100_000, bytes.len()] {
        assert_eq!(cut(&bytes[..bytes.len() / 2], part), seen, "in parts of {part}");
    }
}

#[test]
fn servers_end_streams() {
    let error = packets(b"\xff\xd4\x04#HY000gone");
    let (seen, uncut) = cut(&[dump(&[format()]), error].concat(), 7);
    assert_eq!(
        (seen.len(), uncut),
        (1, Some(Uncut::Error(Bytes::from_static(b"\xff\xd4\x04#HY000gone"))))
    );
    assert_eq!(cut(&packets(b"\xfe\0\0\0\0"), 1), (Vec::new(), Some(Uncut::End)));
    assert!(cut(&packets(&MAGIC), 1).1.is_some());
    assert!(cut(&packets(b""), 1).1.is_some());
}
