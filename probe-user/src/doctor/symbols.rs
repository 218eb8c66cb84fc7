//! The probed functions as `/proc/kallsyms` lists them. Names and modules only: the addresses, hidden
//! from most users, are never needed.

use std::io::{self, BufRead};

/// The functions that iovascope probes.
pub const DISPATCH: &str = "iommufd_fops_ioctl";
pub const GET_PHYS: &str = "iopt_get_phys";

/// One function's entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Symbol {
    /// Entries with exactly this name.
    pub count: usize,
    /// Whose they are; a built-in one has no module.
    pub modules: Vec<String>,
    /// Copies the compiler made (`.isra.0`, `.llvm.123`): not the function, and not to be probed for it.
    pub variants: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Symbols {
    pub dispatch: Symbol,
    pub get_phys: Symbol,
}

impl Symbols {
    /// Read `address type name [module]` lines.
    pub fn parse(mut kallsyms: impl BufRead) -> io::Result<Self> {
        let mut symbols = Self::default();
        let mut line = String::new();
        while kallsyms.read_line(&mut line)? > 0 {
            symbols.take(&line);
            line.clear();
        }
        Ok(symbols)
    }

    fn take(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let (Some(kind), Some(name)) = (words.nth(1), words.next()) else {
            return;
        };
        // Text only: exports add __ksymtab entries and tracing adds data with longer names.
        if !matches!(kind, "t" | "T" | "w" | "W") {
            return;
        }
        for (wanted, symbol) in [(DISPATCH, &mut self.dispatch), (GET_PHYS, &mut self.get_phys)] {
            match name.strip_prefix(wanted) {
                Some("") => {
                    symbol.count += 1;
                    let module = words.next().map(|module| module.trim_matches(['[', ']']));
                    symbol.modules.extend(module.map(str::to_owned));
                }
                Some(rest) if rest.starts_with('.') => symbol.variants.push(name.to_owned()),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Symbols {
        Symbols::parse(text.as_bytes()).expect("memory reads")
    }

    #[test]
    fn a_module_and_a_built_in_are_told_apart() {
        let symbols = parse(
            "0000000000000000 t iommufd_fops_ioctl\t[iommufd]\n\
             0000000000000000 T iopt_get_phys\n\
             0000000000000000 r iopt_get_phys\n\
             0000000000000000 T iopt_get_physics\n",
        );
        assert_eq!((symbols.dispatch.count, symbols.dispatch.modules), (1, vec!["iommufd".to_owned()]));
        assert_eq!((symbols.get_phys.count, symbols.get_phys.modules.len()), (1, 0));
    }

    #[test]
    fn copies_and_duplicates_are_counted_apart() {
        let symbols = parse(
            "0 t iopt_get_phys.isra.0\t[iommufd]\n0 t iommufd_fops_ioctl\n0 t iommufd_fops_ioctl\nbad line\n\n",
        );
        assert_eq!(symbols.get_phys.count, 0);
        assert_eq!(symbols.get_phys.variants, ["iopt_get_phys.isra.0"]);
        assert_eq!(symbols.dispatch.count, 2);
    }
}
