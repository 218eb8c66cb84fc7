//! What a source tells the dashboard. The only way in: no lock is shared, nothing is asked back.

use probe_model::call::Call;
use probe_model::histogram::Histogram;
use probe_model::origin::{End, Header, Mark};
use probe_model::sample::Sample;

/// One piece of news.
#[derive(Debug, Clone)]
pub enum Feed {
    /// What is being watched.
    Started(Box<Header>),
    /// Every counter at one instant.
    Sample(Box<Sample>),
    /// Single calls.
    Calls(Vec<Call>),
    /// Something marked in time.
    Mark(Box<Mark>),
    /// The workload beside us.
    Driver(Box<Driver>),
    /// A line of output of the command beside us.
    Output(Vec<u8>),
    /// The command beside us ended.
    CommandEnded(String),
    /// Nothing more comes.
    Ended(Ended),
    /// The source failed, for people: what, why, what to do.
    Failed(String),
}

/// How a source ended.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    /// The recording's own last words.
    pub end: Option<End>,
    /// Why it is only a prefix.
    pub unclean: Option<String>,
}

/// What a workload says of itself while it runs. Rates in calls a second.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Driver {
    /// The stage and its jobs, for people.
    pub phase: String,
    /// The rate asked for; `None` of a closed loop.
    pub intended: Option<f64>,
    /// The rate achieved.
    pub achieved: f64,
    /// Calls made.
    pub calls: u64,
    /// Of these, the failed ones.
    pub failed: u64,
    /// From the call to its return, ns.
    pub service: Option<Histogram>,
    /// From the intended start to the return, ns: what a client waits.
    pub response: Option<Histogram>,
    /// How late the latest call began, ns; 0 in a closed loop.
    pub behind: u64,
    /// How much of it is done, 0 to 1, where that is known.
    pub done: Option<f64>,
}
