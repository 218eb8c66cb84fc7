//! Objects made up here with `object`'s writer stand for kernels.

use object::write::{self, SectionKind};
use object::{Architecture, BinaryFormat, Endianness, SymbolFlags, SymbolScope};

use super::super::unpack::tests::{bzimage, gzip};
use super::*;
use crate::btf::blob;

fn elf(symbols: &[&str], sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut object = write::Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    let text = object.section_id(write::StandardSection::Text);
    object.append_section_data(text, &[0x90; 64], 16);
    for name in symbols {
        object.add_symbol(write::Symbol {
            name: name.as_bytes().to_vec(),
            value: 0,
            size: 16,
            kind: SymbolKind::Text,
            scope: SymbolScope::Linkage,
            weak: false,
            section: write::SymbolSection::Section(text),
            flags: SymbolFlags::None,
        });
    }
    for (name, data) in sections {
        let section = object.add_section(Vec::new(), name.as_bytes().to_vec(), SectionKind::ReadOnlyData);
        object.append_section_data(section, data, 1);
    }
    object.write().expect("a good object")
}

fn examine_bytes(bytes: &[u8]) -> Result<KernelReport, KernelFileError> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("write");
    examine(file.path())
}

fn judged(bytes: &[u8]) -> Judgement {
    examine_bytes(bytes).expect("readable").judgement
}

const IOMMUFD: &[u8] = b"name=iommufd\0vermagic=7.3.4-test SMP mod_unload\0";

#[test]
fn a_module_with_both_functions_will_do() {
    let module = elf(&["iommufd_fops_ioctl", "iopt_get_phys", "other"], &[(".modinfo", IOMMUFD)]);
    let report = examine_bytes(&gzip(&module)).expect("readable");
    assert_eq!(report.judgement, Judgement::WillDo);
    assert_eq!((report.kind, report.layers), (Kind::Module("iommufd".to_owned()), vec!["gzip"]));
    assert_eq!(report.release.as_deref(), Some("7.3.4-test"));
    assert_eq!((report.dispatch, report.get_phys), (Found::InSymbols, Found::InSymbols));
}

#[test]
fn a_module_built_without_noiommu_will_not() {
    let module = elf(&["iommufd_fops_ioctl", "iopt_get_physics"], &[(".modinfo", IOMMUFD)]);
    assert_eq!(judged(&module), Judgement::NoGetPa);
}

#[test]
fn another_module_is_named() {
    let module = elf(&["vfio_init"], &[(".modinfo", b"name=vfio\0")]);
    let report = examine_bytes(&module).expect("readable");
    assert_eq!((report.judgement, report.kind), (Judgement::OtherModule, Kind::Module("vfio".to_owned())));
}

#[test]
fn a_stripped_boot_image_is_known_by_its_btf() {
    let btf = blob(&["iommufd_fops_ioctl", "iopt_get_phys", "BPF_TRACE_FSESSION"], 0);
    let banner = b"Linux version %s\0Linux version 7.3.4-test (builder) \x1b[2J\n\0";
    let image = bzimage(&gzip(&elf(&[], &[(".BTF", &btf), (".rodata", banner)])));
    let report = examine_bytes(&image).expect("readable");
    assert_eq!(report.judgement, Judgement::WillDo);
    assert_eq!(report.layers, ["bzImage", "gzip"]);
    assert_eq!((report.get_phys, report.fsession), (Found::InBtf, Some(true)));
    assert_eq!(report.release.as_deref(), Some("7.3.4-test"));
    let without = blob(&["main"], 0);
    assert_eq!(judged(&elf(&[], &[(".BTF", &without)])), Judgement::NotBuiltIn);
}

#[test]
fn a_stripped_kernel_without_btf_cannot_be_known() {
    let report = examine_bytes(&elf(&[], &[])).expect("readable");
    assert_eq!((report.judgement, report.dispatch), (Judgement::Unknowable, Found::Unknowable));
    let mut text = Vec::new();
    report.write_text(&mut text).expect("writes");
    assert!(String::from_utf8(text).expect("text").contains("it is stripped and has no BTF"));
}

#[test]
fn an_embedded_config_decides_where_nothing_else_does() {
    let config = |text: &str| {
        let mut data = b"IKCFG_ST".to_vec();
        data.extend(gzip(text.as_bytes()));
        data.extend(b"IKCFG_ED");
        elf(&[], &[(".rodata", &data)])
    };
    assert_eq!(judged(&config("# CONFIG_IOMMUFD is not set\n")), Judgement::NotBuilt);
    assert_eq!(judged(&config("CONFIG_IOMMUFD=m\n")), Judgement::NotBuiltIn);
    assert_eq!(judged(&config("CONFIG_IOMMUFD=y\n")), Judgement::Unknowable);
}

#[test]
fn damaged_files_are_errors_that_name_the_file() {
    let module = elf(&["iommufd_fops_ioctl", "iopt_get_phys"], &[(".modinfo", IOMMUFD)]);
    for length in [0, 3, 20, 63] {
        let error = examine_bytes(&module[..length]).expect_err("cut short");
        assert!(error.to_string().starts_with('/'), "{error}");
    }
    // Cut inside or after the headers: an error, or a report that claims less; never a panic.
    for length in 64..module.len() {
        if let Ok(report) = examine_bytes(&module[..length]) {
            assert_ne!(report.judgement, Judgement::WillDo, "{length} of {}", module.len());
        }
    }
    let error = examine(Path::new("/nonexistent/vmlinuz")).expect_err("absent");
    assert!(error.to_string().contains("reading /nonexistent/vmlinuz"), "{error}");
}

#[test]
fn text_from_the_file_is_made_harmless() {
    let module = elf(&[], &[(".modinfo", b"name=\x1b]52;c;x\x07\0")]);
    let report = examine_bytes(&module).expect("readable");
    assert_eq!(report.kind, Kind::Module("?]52;c;x?".to_owned()));
}
