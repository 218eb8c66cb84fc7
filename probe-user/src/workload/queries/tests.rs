use super::*;

const PAGE: u64 = 4096;

fn field(cap: Cap) -> Field {
    Field { size: 10 * PAGE, page: PAGE, huge: 4 * PAGE, cap, start: 0, random: Random::new(1, 0) }
}

/// Offsets in pages of the first queries, each answered with `run` bytes.
fn offsets(name: &str, run: u64, count: usize) -> Vec<u64> {
    let mut sequence = Queries::named(name).expect("known").begin(field(Cap::Page));
    let mut last = 0;
    (0..count)
        .map(|_| {
            let ask = sequence.next(last);
            last = run;
            assert!(ask.offset < 10 * PAGE, "{name}: {ask:?}");
            ask.offset / PAGE
        })
        .collect()
}

#[test]
fn each_pattern_goes_where_it_says() {
    assert_eq!(offsets("returned", 3 * PAGE, 5), [0, 3, 6, 9, 0]);
    assert_eq!(offsets("returned", 0, 3), [0, 1, 2], "a failure gives nothing to go by");
    assert_eq!(offsets("returned", u64::MAX, 2), [0, 0]);
    assert_eq!(offsets("page", 3 * PAGE, 11), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]);
    assert_eq!(offsets("huge", PAGE, 4), [0, 4, 8, 0]);
    assert_eq!(offsets("rescan", 3 * PAGE, 3), [0, 0, 0]);
    let random = offsets("random", PAGE, 100);
    assert!((0..10).all(|page| random.contains(&page)), "{random:?}");
}

#[test]
fn a_thread_begins_where_it_is_told() {
    for name in ["returned", "page", "rescan"] {
        let field = Field { start: 5 * PAGE, ..field(Cap::Page) };
        assert_eq!(Queries::named(name).expect("known").begin(field).next(0).offset, 5 * PAGE, "{name}");
    }
}

#[test]
fn unaligned_means_inside_pages() {
    let mut sequence = Queries::named("unaligned").expect("known").begin(field(Cap::Page));
    let asks: Vec<Ask> = (0..100).map(|_| sequence.next(0)).collect();
    assert!(asks.iter().filter(|ask| ask.offset % PAGE != 0).count() > 90);
    assert!(asks.iter().all(|ask| ask.offset < 10 * PAGE));
}

#[test]
fn the_cap_becomes_a_length() {
    for (text, length) in [("page", PAGE), ("77", 77), ("area", 9 * PAGE), ("max", u64::MAX)] {
        let cap: Cap = text.parse().expect("good");
        let field = Field { start: PAGE, ..field(cap) };
        assert_eq!(Queries::named("page").expect("known").begin(field).next(0).length, length);
        assert_eq!(cap.to_string(), text);
    }
    assert_eq!("2M".parse(), Ok(Cap::Bytes(Bytes(2 << 20))));
    assert!("most".parse::<Cap>().is_err());
}

#[test]
fn a_sweep_goes_through_its_classes_in_turn() {
    let queries = Queries::named("cap-sweep").expect("known");
    let classes = queries.classes(&field(Cap::Page));
    assert_eq!(classes, [PAGE, 2 * PAGE, 4 * PAGE, 8 * PAGE, 10 * PAGE]);
    let mut sequence = queries.begin(field(Cap::Page));
    for turn in 0..10 {
        let ask = sequence.next(0);
        assert_eq!((ask.class, ask.length), (turn % 5, classes[turn % 5]));
    }
    assert!(Queries::RETURNED.classes(&field(Cap::Page)).is_empty());
}
