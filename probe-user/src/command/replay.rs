//! `iovascope replay`: a recording, or one that still grows, in the dashboard.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, bail};

use crate::cli::ReplayArgs;
use crate::exit::Status;
use crate::recording::{Event, Reader, RecordingError};
use crate::tui::app::Length;
use crate::tui::feed::{Ended, Feed};
use crate::tui::run::Feeder;
use crate::tui::{self};

use super::courier::Courier;
use super::dashboard;

pub(super) fn run(args: &ReplayArgs) -> anyhow::Result<Status> {
    let live = args.file.as_deref() == Some("-");
    let chosen = dashboard::choose(&args.dashboard, if live { Length::TenSeconds } else { Length::All })?;
    if args.dashboard.print_config {
        dashboard::print_config(&chosen)?;
        return Ok(Status::Ok);
    }
    let Some(file) = args.file.clone() else { bail!("no recording was named") };
    tui::run::require_terminal()?;
    // Mistakes in a file are told before there is a dashboard; a stream may not have begun yet.
    let (input, name): (Box<dyn Read + Send>, String) = if live {
        if io::IsTerminal::is_terminal(&io::stdin()) {
            bail!(
                "`-` reads a recording from stdin, which is this terminal: pipe one into it, such as\n  \
                   ssh HOST iovascope record -o - | iovascope replay -"
            );
        }
        (Box::new(BufReader::new(take_stdin()?)), "a recording on stdin".to_owned())
    } else {
        let opened = File::open(&file).with_context(|| format!("cannot open {file}"))?;
        Reader::begin(BufReader::new(&opened), file.clone())?;
        let opened = File::open(&file).with_context(|| format!("cannot open {file}"))?;
        (Box::new(BufReader::new(opened)), file)
    };
    let short = std::path::Path::new(&name).file_name().map(|name| name.to_string_lossy().into_owned());
    let setup = chosen.setup(short.unwrap_or_else(|| name.clone()), live);
    let start = move |feeder: Feeder| {
        let reader = thread::Builder::new().name("reader".to_owned());
        let failing = feeder.clone();
        if let Err(error) =
            reader.spawn(move || if live { follow(input, name, &feeder) } else { read(input, name, &feeder) })
        {
            failing.send(Feed::Failed(format!("cannot start the reader: {error}")));
        }
    };
    let view = tui::run(setup, start, dashboard::export)?;
    dashboard::remember(&chosen, view)?;
    Ok(Status::Ok)
}

/// Stdin as a file of the reader's own: closed when nothing more is read from it, so that who writes to it hears
/// of it, and does not wait for as long as the dashboard is looked at.
fn take_stdin() -> anyhow::Result<File> {
    let pipe = io::stdin().as_fd().try_clone_to_owned().context("cannot take stdin")?;
    let nothing = File::open("/dev/null").context("cannot open /dev/null")?;
    rustix::stdio::dup2_stdin(nothing).context("cannot replace stdin")?;
    Ok(File::from(pipe))
}

/// Hand a recording over until its end, or until nobody takes it.
fn read(input: Box<dyn Read + Send>, name: String, feeder: &Feeder) {
    if let Err(error) = read_all(input, name, &mut |feed| feeder.send(feed)) {
        feeder.send(failed(error));
    }
}

/// The same of a stream, which is read on whatever the terminal does.
fn follow(input: Box<dyn Read + Send>, name: String, feeder: &Feeder) {
    let courier = Arc::new(Courier::default());
    let begun = Arc::clone(&courier);
    let carrying = feeder.clone();
    let carrier = thread::Builder::new().name("courier".to_owned());
    if let Err(error) = carrier.spawn(move || begun.deliver(&carrying)) {
        feeder.send(Feed::Failed(format!("cannot start the courier: {error}")));
        return;
    }
    let mut hand_over = |feed| match feed {
        Feed::Started(_) => feeder.send(feed),
        other => courier.take(other),
    };
    if let Err(error) = read_all(input, name, &mut hand_over) {
        courier.take(failed(error));
    }
}

fn failed(error: RecordingError) -> Feed {
    Feed::Failed(format!("{:#}", anyhow::Error::from(error)))
}

fn read_all(
    input: Box<dyn Read + Send>,
    name: String,
    hand_over: &mut dyn FnMut(Feed) -> bool,
) -> Result<(), RecordingError> {
    let mut reader = Reader::begin(input, name)?;
    if !hand_over(Feed::Started(Box::new(reader.header().clone()))) {
        return Ok(());
    }
    while let Some(event) = reader.next_event()? {
        let feed = match event {
            Event::Window(_) => Feed::Sample(Box::new(reader.sample().clone())),
            Event::Calls(calls) => Feed::Calls(calls),
            Event::Mark(mark) => Feed::Mark(Box::new(mark)),
            Event::Anchor(_) => continue,
        };
        if !hand_over(feed) {
            return Ok(());
        }
    }
    let ended = Ended { end: reader.end().cloned(), unclean: reader.unclean().map(str::to_owned) };
    hand_over(Feed::Ended(ended));
    Ok(())
}
