//! One thin file per way to attach: where arguments, results and the open call come from. What is
//! counted of a call is the sites' business alone.

mod fentry;
mod fsession;
mod kprobe;
mod kprobe_session;
