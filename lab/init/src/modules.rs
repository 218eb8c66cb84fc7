//! Loads kernel modules from files, compressed or not, in the order given. Knows no dependencies.

use std::fs::File;
use std::path::Path;

use rustix::io::Errno;
use rustix::system::finit_module;

use crate::Failure;

/// `MODULE_INIT_COMPRESSED_FILE` of include/uapi/linux/module.h: the kernel decompresses.
const COMPRESSED: i32 = 4;

/// Loads `paths` in order.
pub(crate) fn load_all(paths: &[String]) -> Result<(), Failure> {
    paths.iter().try_for_each(|path| load(path))
}

/// Loads one module; one that is there already is no failure.
pub(crate) fn load(path: &str) -> Result<(), Failure> {
    let file = File::open(path).map_err(|e| format!("open module {path}: {e}"))?;
    let plain = Path::new(path).extension().is_some_and(|extension| extension == "ko");
    let flags = if plain { 0 } else { COMPRESSED };
    match finit_module(&file, c"", flags) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(format!("load module {path}: {error} (the console says more)")),
    }
}
