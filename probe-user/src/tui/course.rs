//! The course of things in columns of equal time, for charts and heatmaps.

use probe_model::slice::{BANDS, Slice, Track};

use super::app::{App, Length};

/// Bands of latency.
pub const BAND_COUNT: usize = BANDS.len();

/// One column.
#[derive(Debug, Clone)]
pub struct Bin {
    /// Time in it that is recorded, ns.
    pub covered: f64,
    pub dark: bool,
    pub dispatch: Site,
    pub get_phys: Site,
    pub bytes: Vec<f64>,
}

/// One site in a column.
#[derive(Debug, Clone)]
pub struct Site {
    pub calls: f64,
    pub failed: f64,
    pub lost: f64,
    pub bands: Vec<f64>,
}

/// Columns of equal time.
#[derive(Debug, Clone)]
pub struct Course {
    /// Where the first column begins and the last ends, monotonic ns.
    pub from: u64,
    pub to: u64,
    pub bins: Vec<Bin>,
}

impl Default for Site {
    fn default() -> Self {
        Self { calls: 0.0, failed: 0.0, lost: 0.0, bands: vec![0.0; BAND_COUNT] }
    }
}

impl Site {
    fn add(&mut self, track: &Track, share: f64) {
        self.calls += track.calls as f64 * share;
        self.failed += track.failed as f64 * share;
        self.lost += track.lost as f64 * share;
        for (&band, &count) in &track.bands {
            if let Some(sum) = self.bands.get_mut(usize::from(band)) {
                *sum += count as f64 * share;
            }
        }
    }

    /// The band that a share `q` of the latencies do not exceed: its upper bound, ns.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total: f64 = self.bands.iter().sum();
        let mut seen = 0.0;
        let band = self.bands.iter().position(|count| {
            seen += count;
            *count > 0.0 && seen >= q * total * (1.0 - 1e-9)
        })?;
        Some(BANDS.highest(band) as f64)
    }
}

impl Bin {
    /// The site that is asked for.
    pub fn site(&self, scans: bool) -> &Site {
        if scans { &self.get_phys } else { &self.dispatch }
    }

    /// A count as a rate, events a second; none where nothing was recorded.
    pub fn rate(&self, count: f64) -> Option<f64> {
        (self.covered > 0.0).then(|| count / (self.covered / 1e9))
    }
}

impl Course {
    /// The course up to where the app's window ends, in `width` columns. None without two samples.
    pub fn of(app: &App, width: u16) -> Option<Self> {
        let (first, here, _) = app.position()?;
        let width = usize::from(width.max(1));
        let to = here.monotonic;
        let from = to.saturating_sub(span(app.length)).max(first.monotonic.max(app.floor)).min(to);
        if to <= from {
            return None;
        }
        let step = (to - from) as f64 / width as f64;
        let mut bins = vec![
            Bin {
                covered: 0.0,
                dark: false,
                dispatch: Site::default(),
                get_phys: Site::default(),
                bytes: vec![0.0; probe_model::contiguity::ORDERS],
            };
            width
        ];
        for slice in app.timeline.slices().rev() {
            if slice.to.monotonic <= from {
                break;
            }
            if slice.from.monotonic < to {
                spread(slice, from, step, &mut bins);
            }
        }
        Some(Self { from, to, bins })
    }

    /// The column of an instant, if it is in one.
    pub fn column(&self, at: u64) -> Option<usize> {
        let inside = (self.from..=self.to).contains(&at);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "below the number of bins"
        )]
        let column = |at: u64| {
            ((at - self.from) as f64 / (self.to - self.from) as f64 * self.bins.len() as f64) as usize
        };
        inside.then(|| column(at).min(self.bins.len() - 1))
    }
}

/// How much of the past the charts show beside a window, ns.
fn span(length: Length) -> u64 {
    match length {
        Length::Second => 30_000_000_000,
        Length::TenSeconds => 120_000_000_000,
        Length::Minute => 600_000_000_000,
        Length::All => u64::MAX,
    }
}

/// Give each column its share of a slice.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the number of bins")]
fn spread(slice: &Slice, from: u64, step: f64, bins: &mut [Bin]) {
    let begin = (slice.from.monotonic as f64 - from as f64) / step;
    let end = (slice.to.monotonic as f64 - from as f64) / step;
    let length = (end - begin).max(f64::MIN_POSITIVE);
    let first = begin.max(0.0) as usize;
    let last = (end.ceil().max(0.0) as usize).min(bins.len());
    for (column, bin) in bins.iter_mut().enumerate().take(last).skip(first) {
        let overlap = end.min(column as f64 + 1.0) - begin.max(column as f64);
        if overlap <= 0.0 {
            continue;
        }
        let share = overlap / length;
        bin.covered += overlap * step;
        bin.dark |= slice.dark;
        bin.dispatch.add(&slice.dispatch, share);
        bin.get_phys.add(&slice.get_phys, share);
        for (sum, bytes) in bin.bytes.iter_mut().zip(slice.bytes) {
            *sum += bytes as f64 * share;
        }
    }
}
