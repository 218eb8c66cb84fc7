//! `iovascope export`: a recording in the formats of other tools.

use anyhow::Context as _;

use super::input;
use crate::cli::ExportArgs;
use crate::exit::{Status, Usage};
use crate::export::{self, Options};
use crate::recording::Reader;

pub(super) fn run(args: &ExportArgs) -> anyhow::Result<Status> {
    let format =
        export::format(&args.format).ok_or_else(|| Usage(format!("there is no format {:?}", args.format)))?;
    let reader = Reader::begin(input::open(&args.file)?, args.file.clone())?;
    let options = Options { series: args.series.clone(), processes: args.processes };
    let range = input::Range::of(&args.range, reader.header());
    let mut out = input::create_output(&args.output)?;
    let mut export = (format.make)(&options);
    let written = (|| {
        export.begin(reader.header(), &mut out)?;
        let whole = reader.sum_up(|window| -> anyhow::Result<bool> {
            let wanted = range.holds(window);
            if wanted {
                export.window(window, &mut out)?;
            }
            Ok(wanted)
        })?;
        export.end(&whole, &mut out)?;
        out.flush()?;
        Ok(whole)
    })();
    let whole = match written {
        Ok(whole) => whole,
        Err(error) if input::reader_left(&error) => return Ok(Status::Ok),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot export {} as {}", args.file, args.format));
        }
    };
    Ok(if args.strict && !whole.is_complete() { Status::Incomplete } else { Status::Ok })
}
