//! Pushing OTLP over HTTP, from a thread of its own: a collector that is slow, gone or never answers costs
//! the source nothing.
//!
//! The queue holds one message. Metrics are cumulative, so a newer one holds all of an older one: what is
//! dropped is resolution, and it is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;

/// For a request to be answered.
const PATIENCE: Duration = Duration::from_secs(10);
/// Waits before a message is tried again; after the last it is given up, or before it for a newer one.
const WAITS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// Where to push to.
#[derive(Debug, Clone)]
pub struct Target {
    /// Such as `http://127.0.0.1:4318/v1/metrics`.
    pub url: String,
    /// Sent with every message, such as a token.
    pub headers: Vec<(String, String)>,
}

/// What became of the messages.
#[derive(Debug, Default)]
pub struct Fates {
    /// Taken by the collector.
    pub sent: AtomicU64,
    /// Given up for a newer one, or after the last try.
    pub dropped: AtomicU64,
}

/// A thread that pushes.
pub struct Push {
    queue: Option<SyncSender<ExportMetricsServiceRequest>>,
    fates: Arc<Fates>,
    thread: Option<JoinHandle<()>>,
}

impl Push {
    /// Begin; `tell` hears why a message could not be sent, once until one could.
    pub fn begin(target: Target, tell: impl Fn(&str) + Send + 'static) -> std::io::Result<Self> {
        let (queue, messages) = sync_channel(1);
        let fates = Arc::new(Fates::default());
        let own = Arc::clone(&fates);
        let thread = std::thread::Builder::new()
            .name("otlp".to_owned())
            .spawn(move || push(&target, &messages, &own, &tell))?;
        Ok(Self { queue: Some(queue), fates, thread: Some(thread) })
    }

    /// Send this, unless the one before still waits: then this is dropped, and the next one holds it.
    pub fn offer(&self, message: ExportMetricsServiceRequest) {
        let full = |queue: &SyncSender<_>| matches!(queue.try_send(message), Err(TrySendError::Full(_)));
        if self.queue.as_ref().is_some_and(full) {
            self.fates.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What became of the messages so far.
    pub fn fates(&self) -> &Fates {
        &self.fates
    }

    /// Wait for the last message; at most as long as its tries take.
    pub fn end(mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic there is reported there.
            let _ = thread.join();
        }
    }
}

fn push(
    target: &Target,
    messages: &Receiver<ExportMetricsServiceRequest>,
    fates: &Fates,
    tell: &dyn Fn(&str),
) {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().into();
    let mut is_told = false;
    let mut next = messages.recv().ok();
    while let Some(message) = next.take() {
        let body = message.encode_to_vec();
        let mut waits = WAITS.into_iter();
        loop {
            let Err(why) = post(&agent, target, &body) else {
                fates.sent.fetch_add(1, Ordering::Relaxed);
                is_told = false;
                break;
            };
            if !is_told {
                tell(&format!("cannot push to {}: {why}", target.url));
                is_told = true;
            }
            let Some(wait) = waits.next() else {
                fates.dropped.fetch_add(1, Ordering::Relaxed);
                break;
            };
            match messages.recv_timeout(wait) {
                Ok(newer) => {
                    fates.dropped.fetch_add(1, Ordering::Relaxed);
                    next = Some(newer);
                    break;
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Nobody waits for the outcome any more.
                Err(RecvTimeoutError::Disconnected) => {
                    fates.dropped.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
        if next.is_none() {
            next = messages.recv().ok();
        }
    }
}

fn post(agent: &ureq::Agent, target: &Target, body: &[u8]) -> Result<(), ureq::Error> {
    let mut request = agent.post(&target.url).header("content-type", "application/x-protobuf");
    for (name, value) in &target.headers {
        request = request.header(name, value);
    }
    request.send(body).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    fn target(listener: &TcpListener) -> Target {
        let url = format!("http://{}/v1/metrics", listener.local_addr().unwrap());
        Target { url, headers: vec![("x-token".into(), "a".into())] }
    }

    #[test]
    fn a_collector_that_never_answers_blocks_nobody() {
        let black_hole = TcpListener::bind("127.0.0.1:0").unwrap();
        let push = Push::begin(target(&black_hole), |_| {}).unwrap();
        // The first is taken by the thread at some time, one waits, the others are dropped.
        for _ in 0..1000 {
            push.offer(ExportMetricsServiceRequest::default());
        }
        assert!(push.fates().dropped.load(Ordering::Relaxed) >= 998);
        assert_eq!(push.fates().sent.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_message_arrives_with_its_headers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let push = Push::begin(target(&listener), |_| {}).unwrap();
        push.offer(ExportMetricsServiceRequest::default());
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.starts_with("post /v1/metrics ") && head.contains("x-token: a"), "{head}");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        let fates = Arc::clone(&push.fates);
        push.end();
        assert_eq!(fates.sent.load(Ordering::Relaxed), 1);
    }
}
