//! OpenTelemetry metrics (OTLP): cumulative sums and exponential histograms, as JSON for a file and as a
//! message for a push. Base units, because exponential buckets cannot be rescaled later.

use std::io::{self, Write};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use probe_model::histogram::Histogram;
use probe_model::metric::{self, Family, Kind, Point, SCHEMA, Value};
use probe_model::origin::{Header, Recording};
use probe_model::sample::{Instant, Sample};

use super::openmetrics::scale;
use super::{Export, Options};

pub(super) fn make(options: &Options) -> Box<dyn Export> {
    Box::new(Document { processes: options.processes })
}

struct Document {
    processes: usize,
}

impl Export for Document {
    fn end(&mut self, whole: &Recording, out: &mut dyn Write) -> io::Result<()> {
        let sample = Sample { at: whole.window.to, counters: whole.window.counters.clone() };
        let families = metric::families(&whole.header, &sample, self.processes);
        let request = request(&whole.header, &families, whole.window.from, whole.window.to);
        // One line: the form of OpenTelemetry's own file exporter.
        serde_json::to_writer(&mut *out, &request)?;
        writeln!(out)
    }
}

/// The message that holds `families`, counted from one instant to another.
pub fn request(
    header: &Header,
    families: &[Family],
    from: Instant,
    to: Instant,
) -> ExportMetricsServiceRequest {
    let span = Span { from: from.realtime, to: to.realtime };
    let scope = InstrumentationScope {
        name: "iovascope".to_owned(),
        version: header.tool.clone(),
        ..InstrumentationScope::default()
    };
    let mut attributes = vec![
        attribute("service.name", "iovascope"),
        attribute("os.type", "linux"),
        attribute("os.version", &header.kernel),
        attribute("host.arch", &header.machine),
    ];
    // Two hosts that push to one database are told apart by it.
    let instance = header.tags.get("instance").or(header.host.boot_id.as_ref());
    attributes.extend(instance.map(|instance| attribute("service.instance.id", instance)));
    attributes
        .extend(header.tags.iter().map(|(name, value)| attribute(&format!("iovascope.tag.{name}"), value)));
    let scoped = ScopeMetrics {
        scope: Some(scope),
        metrics: families.iter().map(|family| metric_of(family, span)).collect(),
        ..ScopeMetrics::default()
    };
    let resource = Resource { attributes, ..Resource::default() };
    let resource_metrics = vec![ResourceMetrics {
        resource: Some(resource),
        scope_metrics: vec![scoped],
        ..ResourceMetrics::default()
    }];
    ExportMetricsServiceRequest { resource_metrics }
}

/// From when to when, ns since 1970 UTC.
#[derive(Clone, Copy)]
struct Span {
    from: u64,
    to: u64,
}

fn metric_of(Family { metric, points }: &Family, span: Span) -> Metric {
    let temporality = AggregationTemporality::Cumulative.into();
    let data = match metric.kind {
        Kind::Gauge => Data::Gauge(Gauge { data_points: numbers(points, span) }),
        Kind::Counter => Data::Sum(Sum {
            data_points: numbers(points, span),
            aggregation_temporality: temporality,
            is_monotonic: true,
        }),
        Kind::Histogram => Data::ExponentialHistogram(ExponentialHistogram {
            data_points: points.iter().filter_map(|point| distribution(point, span)).collect(),
            aggregation_temporality: temporality,
        }),
    };
    Metric {
        name: metric.otel.to_owned(),
        description: metric.help.to_owned(),
        unit: metric.unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn numbers(points: &[Point], span: Span) -> Vec<NumberDataPoint> {
    let number = |point: &Point| {
        let value = match point.value {
            Value::Count(count) => number_data_point::Value::AsInt(i64::try_from(count).unwrap_or(i64::MAX)),
            Value::Signed(number) => number_data_point::Value::AsInt(number),
            _ => number_data_point::Value::AsDouble(point.value.number()?),
        };
        Some(NumberDataPoint {
            attributes: attributes(point),
            start_time_unix_nano: span.from,
            time_unix_nano: span.to,
            value: Some(value),
            ..NumberDataPoint::default()
        })
    };
    points.iter().filter_map(number).collect()
}

fn distribution(point: &Point, span: Span) -> Option<ExponentialHistogramDataPoint> {
    let Value::Distribution(unit, histogram) = &point.value else { return None };
    let buckets = metric::exponential(*unit, histogram);
    let first = buckets.buckets.keys().next().copied().unwrap_or(0);
    let last = buckets.buckets.keys().last().copied().unwrap_or(first - 1);
    let bucket_counts =
        (first..=last).map(|index| buckets.buckets.get(&index).copied().unwrap_or(0)).collect();
    let extreme = |value: Option<u64>| value.map(|value| value as f64 / scale(*unit));
    let &Histogram { count, sum, min, max, .. } = histogram;
    Some(ExponentialHistogramDataPoint {
        attributes: attributes(point),
        start_time_unix_nano: span.from,
        time_unix_nano: span.to,
        count,
        sum: Some(sum as f64 / scale(*unit)),
        scale: SCHEMA,
        zero_count: buckets.zero,
        // Ours are numbered by their upper end, OpenTelemetry's by their lower one.
        positive: Some(Buckets { offset: first - 1, bucket_counts }),
        min: extreme(min),
        max: extreme(max),
        ..ExponentialHistogramDataPoint::default()
    })
}

fn attributes(point: &Point) -> Vec<KeyValue> {
    point.labels.iter().map(|(name, value)| attribute(name, value)).collect()
}

fn attribute(name: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: name.to_owned(), value: Some(value), ..KeyValue::default() }
}
