//! Debian's kernel as it is: no iommufd at all.

use crate::guest;

#[test]
fn what_is_missing_is_said_and_nothing_is_attached() {
    for arguments in [&["doctor"][..], &["record", "-d", "1s", "-o", "/tmp/stock.iova"]] {
        let output = guest::iovascope(arguments).output().unwrap();
        let said = guest::stdout(&output) + &guest::stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
        assert!(said.contains("CONFIG_IOMMUFD"), "{arguments:?}: {said}");
    }
    guest::nothing_left();
    assert!(!std::path::Path::new("/tmp/stock.iova").exists());
}

#[test]
fn the_driver_says_why_it_cannot() {
    let output = guest::iovascope(&["load", "--count", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", guest::stderr(&output));
    assert!(guest::stderr(&output).contains("/dev/iommu"), "{}", guest::stderr(&output));
}
