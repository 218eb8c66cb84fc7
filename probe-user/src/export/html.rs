//! HTML: the report's page, in the place of an export. What is on it is the report's to say.

use std::io::{self, Write};

use probe_model::origin::{Header, Recording};
use probe_model::window::Window;

use super::{Export, Options};
use crate::report::html::Timeline;
use crate::report::{Report, write_html};

pub(super) fn make(_: &Options) -> Box<dyn Export> {
    Box::new(Page { timeline: Timeline::new(0) })
}

struct Page {
    timeline: Timeline,
}

impl Export for Page {
    fn begin(&mut self, header: &Header, _: &mut dyn Write) -> io::Result<()> {
        self.timeline = Timeline::new(header.started.monotonic);
        Ok(())
    }

    fn window(&mut self, window: &Window, _: &mut dyn Write) -> io::Result<()> {
        self.timeline.add(window);
        Ok(())
    }

    fn end(&mut self, whole: &Recording, out: &mut dyn Write) -> io::Result<()> {
        write_html(&Report::of(whole.clone()), &whole.window.counters, &self.timeline, out)
    }
}
