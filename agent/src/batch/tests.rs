use std::io::Read;

use proptest::prelude::*;

use super::*;

/// A form like a list of lists.
const LISTS: Frame = Frame {
    open: b"[",
    between: b";",
    separator: b",",
    end: b")",
    close: b"]",
    counted: None,
};

/// A form like protobuf: each group begins with the number of bytes after it, in eight digits.
const COUNTED: Frame = Frame {
    counted: Some(Counted {
        size: |head, content| 8 + head + content,
        begin: |head, content, out| {
            out.extend_from_slice(format!("{:08}", head.len() + content).as_bytes());
            out.extend_from_slice(head);
        },
    }),
    ..Frame::NONE
};

const CODINGS: [Compression; 3] = [Compression::Gzip, Compression::Zstd, Compression::None];

fn unpack(coding: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        Compression::Gzip => {
            let mut decoder = flate2::read::GzDecoder::new(bytes);
            decoder.read_to_end(&mut plain).unwrap();
        }
        Compression::Zstd => plain = zstd::stream::decode_all(bytes).unwrap(),
        Compression::None => plain.extend_from_slice(bytes),
    }
    plain
}

fn group(head: &str) -> Rc<[u8]> {
    head.as_bytes().into()
}

fn add(packer: &mut Packer, group: &Rc<[u8]>, record: &[u8]) -> Taken {
    packer.add(group, record.len(), |longest, out| {
        out.extend_from_slice(&record[..record.len().min(longest)]);
    })
}

/// A body of these records, each with the head of its group; how many were taken, and the body.
fn body(frame: &Frame, limits: Limits, records: &[(&str, &str)]) -> (usize, Option<Body>) {
    let mut packer = Packer::default();
    packer.begin(frame, Compression::None, limits);
    let taken = records
        .iter()
        .take_while(|(head, record)| {
            add(&mut packer, &group(head), record.as_bytes()) == Taken::Yes
        })
        .count();
    (taken, packer.finish())
}

fn text(body: &Body) -> &str {
    assert_eq!(body.bytes.len(), body.size, "the size is exact");
    str::from_utf8(&body.bytes).unwrap()
}

#[test]
fn a_body_never_exceeds_its_limits() {
    let records = [("", "12345"), ("", "67890"), ("", "x")];
    let limits = |bytes, records| Limits {
        bytes,
        records,
        ..Limits::NONE
    };
    let (taken, made) = body(&Frame::NONE, limits(10, 100), &records);
    assert_eq!((taken, text(&made.unwrap())), (2, "1234567890"));
    let (taken, made) = body(&Frame::NONE, limits(9, 100), &records);
    assert_eq!((taken, text(&made.unwrap())), (1, "12345"));
    let (taken, made) = body(&Frame::NONE, limits(100, 1), &records);
    assert_eq!((taken, text(&made.unwrap())), (1, "12345"));
}

#[test]
fn the_frame_counts_to_the_byte() {
    let records = [("a(", "1"), ("a(", "2"), ("b(", "3")];
    let whole = "[a(1,2);b(3)]";
    let limits = |bytes| Limits {
        bytes,
        ..Limits::NONE
    };
    let (taken, made) = body(&LISTS, limits(whole.len()), &records);
    assert_eq!((taken, text(&made.unwrap())), (3, whole));
    let (taken, made) = body(&LISTS, limits(whole.len() - 1), &records);
    assert_eq!((taken, text(&made.unwrap())), (2, "[a(1,2)]"));

    let whole = "00000004a(1200000003b(3";
    let (taken, made) = body(&COUNTED, limits(whole.len()), &records);
    assert_eq!((taken, text(&made.unwrap())), (3, whole));
    let (taken, made) = body(&COUNTED, limits(whole.len() - 1), &records);
    assert_eq!((taken, text(&made.unwrap())), (2, "00000004a(12"));
}

#[test]
fn a_record_larger_than_the_limit_goes_alone() {
    for (frame, expected) in [(&LISTS, "[a(12345)]"), (&COUNTED, "00000007a(12345")] {
        let limits = Limits {
            bytes: 3,
            ..Limits::NONE
        };
        let (taken, made) = body(frame, limits, &[("a(", "12345"), ("a(", "x")]);
        assert_eq!((taken, text(&made.unwrap())), (1, expected));
    }
}

#[test]
fn a_record_that_is_too_large_even_alone_is_cut_to_what_fits() {
    let limits = Limits {
        single: "[a(12)]".len(),
        ..Limits::NONE
    };
    let (taken, made) = body(&LISTS, limits, &[("a(", "12345"), ("b(", "6")]);
    assert_eq!((taken, text(&made.unwrap())), (2, "[a(12);b(6)]"));
    let long = "x".repeat(1_000_000);
    for frame in [&LISTS, &COUNTED] {
        let limits = Limits {
            single: 500_000,
            ..Limits::NONE
        };
        let (_, made) = body(frame, limits, &[("head", &long)]);
        let size = made.unwrap().size;
        assert!((495_000..=500_000).contains(&size), "{size}");
    }
}

#[test]
fn nothing_is_no_body() {
    for frame in [&Frame::NONE, &LISTS, &COUNTED] {
        assert!(body(frame, Limits::NONE, &[]).1.is_none());
    }
}

#[test]
fn a_group_that_was_left_is_opened_again() {
    let records = [("a(", "1"), ("b(", "2"), ("a(", "3")];
    let (_, made) = body(&LISTS, Limits::NONE, &records);
    assert_eq!(text(&made.unwrap()), "[a(1);b(2);a(3)]");
    let (_, made) = body(&COUNTED, Limits::NONE, &records);
    assert_eq!(text(&made.unwrap()), "00000003a(100000003b(200000003a(3");
}

/// What a counted body says: heads are one byte.
fn read_counted(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut groups: Vec<(u8, Vec<u8>)> = Vec::new();
    while let Some((count, rest)) = body.split_at_checked(8) {
        let count: usize = str::from_utf8(count).unwrap().parse().unwrap();
        let (content, rest) = rest.split_at(count);
        match groups.last_mut() {
            // A long group comes in pieces.
            Some((head, before)) if *head == content[0] => before.extend_from_slice(&content[1..]),
            _ => groups.push((content[0], content[1..].to_vec())),
        }
        body = rest;
    }
    assert!(body.is_empty());
    groups
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn bodies_of_any_bytes_are_read_back(
        coding in proptest::sample::select(&CODINGS[..]),
        bodies in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50_000), 1..6), 1..4),
    ) {
        let mut packer = Packer::default();
        for records in bodies {
            packer.begin(&Frame::NONE, coding, Limits::NONE);
            for record in &records {
                prop_assert_eq!(add(&mut packer, &group(""), record), Taken::Yes);
            }
            prop_assert_eq!(unpack(coding, &packer.finish().unwrap().bytes), records.concat());
        }
    }

    #[test]
    fn groups_of_any_size_are_counted(
        limit in 1_usize..200_000,
        records in proptest::collection::vec((0_u8..3, proptest::collection::vec(any::<u8>(), 1..20_000)), 1..20),
    ) {
        let heads: [Rc<[u8]>; 3] = [[0], [1], [2]].map(|head: [u8; 1]| Rc::from(head));
        let mut packer = Packer::default();
        let limits = Limits { bytes: limit, ..Limits::NONE };
        packer.begin(&COUNTED, Compression::Gzip, limits);
        let mut expected: Vec<(u8, Vec<u8>)> = Vec::new();
        let mut taken = 0;
        for (head, record) in &records {
            if add(&mut packer, &heads[usize::from(*head)], record) == Taken::No {
                break;
            }
            taken += 1;
            match expected.last_mut() {
                Some((last, content)) if last == head => content.extend_from_slice(record),
                _ => expected.push((*head, record.clone())),
            }
        }
        let body = packer.finish().unwrap();
        let plain = unpack(Compression::Gzip, &body.bytes);
        prop_assert_eq!((plain.len(), body.records), (body.size, taken));
        prop_assert!(plain.len() <= limit || taken == 1);
        prop_assert_eq!(read_counted(&plain), expected);
    }
}
