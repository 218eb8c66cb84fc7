//! A recording holds no physical address, no IOVA, no percentile.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use ciborium::Value;
use iovascope::workload::iommufd::{Iommufd, Query};
use iovascope::workload::memory::{MemInfo, Memory};
use iovascope::workload::quantity::{Bytes, Iova, PageSize};
use iovascope::workload::session::{HugePages, Session};

use crate::guest;

const DEVICE: &str = "/dev/vfio/devices/noiommu-vfio0";
const START: Iova = Iova(0x1234_5600_0000);
const PAGE: u64 = 4096;
const PAGES: u64 = 512;

/// Ask for every page of a buffer; the physical addresses that the kernel told.
fn ask() -> BTreeSet<u64> {
    let iommufd = Iommufd::open(Path::new("/dev/iommu")).unwrap();
    let mut session = Session::open(iommufd, Path::new(DEVICE)).unwrap();
    let info = MemInfo::read(Path::new("/")).unwrap();
    let buffer = Memory::ANON.build(Bytes(PAGES * PAGE), &info, PageSize(PAGE), 0).unwrap();
    let ioas = session.shared(1, HugePages::On).unwrap()[0];
    let target = session.map(ioas, START, &buffer.into(), Bytes(PAGES * PAGE)).unwrap();
    let query =
        |page: u64| Query { ioas: target.ioas, flags: 0, iova: Iova(START.0 + page * PAGE), length: PAGE };
    let told = (0..PAGES).map(|page| session.iommufd.get_pa(query(page)).unwrap().phys.0).collect();
    session.close().unwrap();
    told
}

/// Every integer and every text in a CBOR value, keys included.
fn walk(value: &Value, integers: &mut BTreeSet<u64>, texts: &mut BTreeSet<String>) {
    match value {
        Value::Integer(integer) => drop(integers.insert(u64::try_from(i128::from(*integer)).unwrap_or(0))),
        Value::Text(text) => drop(texts.insert(text.clone())),
        Value::Array(values) => values.iter().for_each(|value| walk(value, integers, texts)),
        Value::Map(pairs) => pairs.iter().for_each(|(key, value)| {
            walk(key, integers, texts);
            walk(value, integers, texts);
        }),
        _ => {}
    }
}

#[test]
fn nothing_that_should_stay_in_the_kernel_is_recorded() {
    let path = guest::file("privacy.iova");
    let mut recorder = guest::iovascope(&["record", "-i", "20ms", "-o"])
        .arg(&path)
        .args(["--", "cat"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // `cat` runs once the probes count, and ends with its input: the file then has its header.
    while !fs::metadata(&path).is_ok_and(|file| file.len() > 8) {
        assert!(recorder.try_wait().unwrap().is_none(), "the recorder ended early");
        std::thread::yield_now();
    }
    let told = ask();
    drop(recorder.stdin.take());
    assert!(recorder.wait().unwrap().success());
    assert_eq!(told.len(), usize::try_from(PAGES).unwrap());
    assert_eq!(guest::report(&path)["get_phys"]["calls"].as_u64(), Some(PAGES), "the calls were recorded");

    let bytes = fs::read(&path).unwrap();
    let (mut integers, mut texts) = (BTreeSet::new(), BTreeSet::new());
    let mut rest = &bytes[8..];
    while let [_, _, flags, _, l0, l1, l2, l3, payload @ ..] = rest {
        let length = usize::try_from(u32::from_le_bytes([*l0, *l1, *l2, *l3])).unwrap();
        let frame = match flags & 2 {
            0 => payload[..length].to_vec(),
            _ => unpacked(&payload[..length]),
        };
        walk(&ciborium::from_reader(&frame[..]).unwrap(), &mut integers, &mut texts);
        rest = &payload[length + 4..];
    }
    assert!(integers.contains(&PAGES) && texts.contains("get_phys"), "the recording was not walked");
    assert!(integers.is_disjoint(&told), "a physical address was recorded");
    let iovas = START.0..START.0 + PAGES * PAGE;
    assert!(integers.range(iovas).next().is_none(), "an IOVA was recorded");
    assert!(integers.range(0xffff_0000_0000_0000..).next().is_none(), "a kernel pointer was recorded");
    for (address, at) in
        told.iter().flat_map(|address| bytes.windows(8).zip(0..).map(move |(w, at)| ((address, w), at)))
    {
        assert!(
            u64::from_le_bytes(address.1.try_into().unwrap()) != *address.0,
            "physical address at byte {at}"
        );
    }
    let percentile = |text: &&String| text.strip_prefix('p').is_some_and(|rest| rest.parse::<f64>().is_ok());
    assert_eq!(texts.iter().find(percentile), None, "a percentile was recorded");
    assert!(texts.iter().all(|text| !text.contains("percentile") && !text.contains("quantile")));
}

fn unpacked(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::DeflateDecoder::new(payload), &mut frame).unwrap();
    frame
}
