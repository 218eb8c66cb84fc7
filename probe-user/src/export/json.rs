//! JSON: the whole recording's counts as one document. Figures and findings are in the report's JSON,
//! but for what a scan costs.

use std::io::{self, Write};

use probe_model::origin::Recording;
use probe_model::scan_cost::Conditions;
use serde_json::{Value, json};

use super::{Export, Options, ndjson};

/// Name and version of the form.
const FORMAT: &str = "iovascope-export-1";

pub(super) fn make(_: &Options) -> Box<dyn Export> {
    Box::new(Document)
}

struct Document;

impl Export for Document {
    fn end(&mut self, whole: &Recording, out: &mut dyn Write) -> io::Result<()> {
        let mut value = ndjson::counters(&whole.window.counters, Conditions::of(&whole.header));
        for (name, field) in [
            ("format", json!(FORMAT)),
            ("header", json!(whole.header)),
            ("from", json!(whole.window.from)),
            ("to", json!(whole.window.to)),
            ("windows", json!(whole.windows)),
            ("end", json!(whole.end)),
            ("unclean", json!(whole.unclean)),
            ("complete", json!(whole.is_complete())),
        ] {
            value.insert(name.to_owned(), field);
        }
        serde_json::to_writer_pretty(&mut *out, &Value::Object(value))?;
        writeln!(out)
    }
}
