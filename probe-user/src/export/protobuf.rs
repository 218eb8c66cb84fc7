//! Metrics as Prometheus's own protocol buffers: the one form that carries native histograms, with the
//! classic buckets beside them. Messages as in `io/prometheus/client/metrics.proto` (`client_model` 0.6).

use probe_model::metric::{self, Exponential, Family, Kind, Point, SCHEMA, Value};
use prost::Message as _;

use super::openmetrics::scale;

/// `Content-Type` of [`encode`].
pub const CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

#[derive(Clone, PartialEq, prost::Message)]
struct LabelPair {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

/// Of a gauge or a counter.
#[derive(Clone, PartialEq, prost::Message)]
struct Number {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct BucketSpan {
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<BucketSpan>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    positive_delta: Vec<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    /// Counter 0, gauge 1, histogram 4.
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

/// Values up to this count as 0: Prometheus's own default, far below 1 ns.
const ZERO: f64 = 2.938_735_877_055_719e-39;

/// The exposition of `families`: messages, each after its length.
pub fn encode(families: &[Family]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for family in families {
        let (kind, total) = match family.metric.kind {
            Kind::Counter => (0, "_total"),
            Kind::Gauge => (1, ""),
            Kind::Histogram => (4, ""),
        };
        let message = MetricFamily {
            name: Some(format!("{}{total}", family.metric.name)),
            help: Some(family.metric.help.to_owned()),
            kind: Some(kind),
            metric: family.points.iter().map(|point| metric(point, family.metric.kind)).collect(),
        };
        bytes.extend(message.encode_length_delimited_to_vec());
    }
    bytes
}

fn metric(point: &Point, kind: Kind) -> Metric {
    let label = |(name, value): &(&str, String)| LabelPair {
        name: Some((*name).to_owned()),
        value: Some(value.clone()),
    };
    let number = point.value.number().map(|value| Number { value: Some(value) });
    let (gauge, counter) = if kind == Kind::Counter { (None, number) } else { (number, None) };
    Metric {
        label: point.labels.iter().map(label).collect(),
        gauge,
        counter,
        histogram: histogram(&point.value),
    }
}

fn histogram(value: &Value) -> Option<Histogram> {
    let Value::Distribution(unit, values) = value else { return None };
    let base = scale(*unit);
    let counted = metric::cumulative(values, metric::bounds(*unit));
    let classic = metric::bounds(*unit).zip(counted).map(|(bound, count)| Bucket {
        cumulative_count: Some(count),
        upper_bound: Some(bound as f64 / base),
    });
    let exponential = metric::exponential(*unit, values);
    let (positive_span, positive_delta) = spans(&exponential);
    Some(Histogram {
        sample_count: Some(values.count),
        sample_sum: Some(values.sum as f64 / base),
        bucket: classic.collect(),
        schema: Some(SCHEMA),
        zero_threshold: Some(ZERO),
        zero_count: Some(exponential.zero),
        positive_span,
        positive_delta,
    })
}

/// Neighbouring buckets as spans, counts as differences to the one before.
fn spans(exponential: &Exponential) -> (Vec<BucketSpan>, Vec<i64>) {
    let mut spans: Vec<BucketSpan> = Vec::new();
    let mut deltas = Vec::new();
    let (mut next, mut before) = (None, 0);
    for (&index, &count) in &exponential.buckets {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        match (next, spans.last_mut()) {
            (Some(expected), Some(span)) if expected == index => {
                span.length = span.length.map(|length| length + 1);
            }
            (expected, _) => {
                spans.push(BucketSpan { offset: Some(index - expected.unwrap_or(0)), length: Some(1) });
            }
        }
        deltas.push(count - before);
        (next, before) = (Some(index + 1), count);
    }
    if spans.is_empty() {
        // A span of no length says that it is a native histogram all the same.
        spans.push(BucketSpan { offset: Some(0), length: Some(0) });
    }
    (spans, deltas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_span_and_gaps_begin_another() {
        let exponential = Exponential { zero: 0, buckets: [(-5, 2), (-4, 7), (0, 1)].into() };
        let (spans, deltas) = spans(&exponential);
        let spans: Vec<_> = spans.iter().map(|span| (span.offset(), span.length())).collect();
        assert_eq!(spans, [(-5, 2), (3, 1)]);
        assert_eq!(deltas, [2, 5, -6]);
    }
}
