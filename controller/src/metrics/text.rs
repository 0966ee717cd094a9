//! The list of metrics as Prometheus reads it: OpenMetrics text, by its conventions: base units in the name, `_total`
//! behind counters.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{self, Registry};

use crate::spread::Spread;

const PREFIX: &str = "dd";

/// What a histogram counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Told in seconds.
    Micros,
    Count,
}

/// Metrics with their values.
#[derive(Debug, Default)]
pub(super) struct List(Vec<Metric>);

#[derive(Debug)]
struct Metric {
    name: &'static str,
    help: &'static str,
    unit: Option<registry::Unit>,
    kind: MetricType,
    values: Vec<(Label, Value)>,
}

/// What tells one value of a metric from the others.
type Label = Option<(&'static str, String)>;

#[derive(Debug)]
enum Value {
    Counter(u64),
    Gauge(i64),
    Seconds(f64),
    Histogram { scale: f64, spread: Spread },
}

impl List {
    pub(super) fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        let values = vec![(None, Value::Counter(value))];
        self.put(name, help, None, MetricType::Counter, values);
    }

    /// One for each value of a label.
    pub(super) fn counters<'a>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'a str, u64)>,
    ) {
        let values = values.into_iter();
        let values = values.map(|(of, value)| (by(label, of), Value::Counter(value)));
        self.put(name, help, None, MetricType::Counter, values.collect());
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str, value: u64) {
        let values = vec![(None, Value::gauge(value))];
        self.put(name, help, None, MetricType::Gauge, values);
    }

    /// One for each value of a label.
    pub(super) fn gauges<'a>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'a str, u64)>,
    ) {
        let values = values.into_iter();
        let values = values.map(|(of, value)| (by(label, of), Value::gauge(value)));
        self.put(name, help, None, MetricType::Gauge, values.collect());
    }

    /// A gauge of a time.
    pub(super) fn seconds(&mut self, name: &'static str, help: &'static str, value: f64) {
        let values = vec![(None, Value::Seconds(value))];
        let unit = Some(registry::Unit::Seconds);
        self.put(name, help, unit, MetricType::Gauge, values);
    }

    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        unit: Unit,
        spread: &Spread,
    ) {
        let values = vec![(None, unit.value(spread.clone()))];
        self.put(name, help, unit.name(), MetricType::Histogram, values);
    }

    /// One for each value of a label.
    pub(super) fn histograms(
        &mut self,
        name: &'static str,
        help: &'static str,
        (label, unit): (&'static str, Unit),
        values: impl IntoIterator<Item = (&'static str, Spread)>,
    ) {
        let values = values.into_iter();
        let values = values.map(|(of, spread)| (by(label, of), unit.value(spread)));
        let kind = MetricType::Histogram;
        self.put(name, help, unit.name(), kind, values.collect());
    }

    fn put(
        &mut self,
        name: &'static str,
        help: &'static str,
        unit: Option<registry::Unit>,
        kind: MetricType,
        values: Vec<(Label, Value)>,
    ) {
        self.0.push(Metric {
            name,
            help,
            unit,
            kind,
            values,
        });
    }

    /// # Errors
    /// Never: a string takes all.
    pub(super) fn into_text(self) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl Unit {
    fn name(self) -> Option<registry::Unit> {
        match self {
            Self::Micros => Some(registry::Unit::Seconds),
            Self::Count => None,
        }
    }

    fn value(self, spread: Spread) -> Value {
        let scale = match self {
            Self::Micros => 1e6,
            Self::Count => 1.0,
        };
        Value::Histogram { scale, spread }
    }
}

fn by(label: &'static str, of: &str) -> Label {
    Some((label, of.to_owned()))
}

impl Collector for List {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for metric in &self.0 {
            let Metric {
                name,
                help,
                unit,
                kind,
                values,
            } = metric;
            let mut encoder = encoder.encode_descriptor(name, help, unit.as_ref(), *kind)?;
            for (label, value) in values {
                match label {
                    None => value.encode(&mut encoder)?,
                    Some((key, of)) => {
                        value.encode(&mut encoder.encode_family(&[(*key, of.as_str())])?)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Exemplars would have labels.
type NoLabels = [(&'static str, &'static str); 0];

impl Value {
    fn gauge(value: u64) -> Self {
        Self::Gauge(i64::try_from(value).unwrap_or(i64::MAX))
    }

    fn encode(&self, encoder: &mut MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        match self {
            Self::Counter(value) => encoder.encode_counter::<NoLabels, _, u64>(value, None),
            Self::Gauge(value) => encoder.encode_gauge(value),
            Self::Seconds(value) => encoder.encode_gauge(value),
            Self::Histogram { scale, spread } => {
                let told: u64 = spread.buckets.iter().map(|(_, count)| count).sum();
                let buckets = spread.buckets.iter();
                let mut buckets: Vec<(f64, u64)> = buckets
                    .map(|(bound, count)| (*bound as f64 / scale, *count))
                    .collect();
                // Read one after the other, the numbers of a busy histogram may differ by a few.
                let above = spread.count.saturating_sub(told);
                buckets.push((f64::INFINITY, above));
                encoder.encode_histogram::<NoLabels>(
                    spread.sum as f64 / scale,
                    told + above,
                    &buckets,
                    None,
                )
            }
        }
    }
}
