//! iommufd without `CONFIG_IOMMUFD_NOIOMMU`: the dispatch is there, the scan is not.

use crate::guest;

#[test]
fn what_is_missing_is_said_and_nothing_is_attached() {
    for arguments in [&["doctor"][..], &["record", "-d", "1s", "-o", "/tmp/off.iova"]] {
        let output = guest::iovascope(arguments).output().unwrap();
        let said = guest::stdout(&output) + &guest::stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
        assert!(
            said.contains("iopt_get_phys") && said.contains("CONFIG_IOMMUFD_NOIOMMU"),
            "{arguments:?}: {said}"
        );
    }
    guest::nothing_left();
    assert!(!std::path::Path::new("/tmp/off.iova").exists());
}

#[test]
fn the_driver_says_why_it_cannot() {
    let output = guest::iovascope(&["load", "--count", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", guest::stderr(&output));
}
