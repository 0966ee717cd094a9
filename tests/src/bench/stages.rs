//! Where a message's time goes in the controller's own words: its stage histograms, as the difference of two looks.
//!
//! A histogram knows only between which bounds a value lies: p50 and p99 here are the upper bounds of their buckets, so the
//! true ones are at most that. The mean is exact.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::scrape::Scrape;
use crate::world::World;

/// In the order of a message's way.
const NAMES: [&str; 6] = [
    "synced",
    "assigned",
    "connected",
    "proved",
    "accepted",
    "settled",
];
const METRIC: &str = "dd_stage_seconds";

/// What was counted, by the name of each value.
#[derive(Debug, Clone, Default)]
pub struct Stages(BTreeMap<String, f64>);

/// One stage of all messages.
#[derive(Debug, Clone, Copy)]
struct Stage {
    count: f64,
    mean: Duration,
    /// Upper bounds; nothing: above all bounds.
    p50: Option<Duration>,
    p99: Option<Duration>,
}

/// Of rounds that each open their session with one message and then flow: only the first has to connect and to prove, and
/// is not counted elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Staged {
    pub opening: Stages,
    pub flowing: Stages,
}

impl Stages {
    /// Since the controller started.
    pub fn of(world: &World) -> Self {
        let scrape = Scrape::of(world);
        let names = scrape.names().filter(|name| name.starts_with(METRIC));
        Self(
            names
                .map(|name| (name.to_owned(), scrape.value(name)))
                .collect(),
        )
    }

    pub fn since(&self, before: &Self) -> Self {
        let then = |name| before.0.get(name).copied().unwrap_or_default();
        let values = self.0.iter();
        Self(
            values
                .map(|(name, now)| (name.clone(), now - then(name)))
                .collect(),
        )
    }

    pub fn add(&mut self, other: &Self) {
        for (name, value) in &other.0 {
            *self.0.entry(name.clone()).or_default() += value;
        }
    }

    /// Nothing: no message came through it.
    fn stage(&self, name: &str) -> Option<Stage> {
        let value = |what: &str| {
            let name = format!("{METRIC}_{what}{{stage=\"{name}\"}}");
            self.0.get(&name).copied()
        };
        let count = value("count").filter(|count| *count >= 1.0)?;
        let buckets = self.buckets(name);
        let at = |part: f64| {
            let place = buckets.iter().find(|(_, below)| *below >= count * part);
            place.and_then(|(bound, _)| Duration::try_from_secs_f64(*bound).ok())
        };
        Some(Stage {
            count,
            mean: Duration::try_from_secs_f64(value("sum")? / count).ok()?,
            p50: at(0.5),
            p99: at(0.99),
        })
    }

    /// Bounds in seconds with how many lie below, the smallest first.
    fn buckets(&self, stage: &str) -> Vec<(f64, f64)> {
        let of_stage = format!("stage=\"{stage}\"");
        let bound = |name: &str| {
            let (_, rest) = name.split_once("le=\"")?;
            rest.split('"').next()?.parse::<f64>().ok()
        };
        let own = self.0.iter().filter(|(name, _)| name.contains(&of_stage));
        let mut buckets: Vec<(f64, f64)> = own
            .filter_map(|(name, below)| Some((bound(name)?, *below)))
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets
    }
}

impl Staged {
    pub fn add(&mut self, other: &Self) {
        self.opening.add(&other.opening);
        self.flowing.add(&other.flowing);
    }

    fn stages(&self) -> Vec<(&'static str, Option<Stage>)> {
        let mut with_opening = self.opening.clone();
        with_opening.add(&self.flowing);
        let stage = |name: &'static str| match name {
            "connected" | "proved" => (name, with_opening.stage(name)),
            _ => (name, self.flowing.stage(name)),
        };
        NAMES.into_iter().map(stage).collect()
    }

    /// `synced 0.31 (0.5 / 2.5), …` in milliseconds: mean, and p50 and p99 at most.
    pub fn text(&self) -> String {
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let bound =
            |time: Option<Duration>| time.map_or("∞".to_owned(), |it| millis(it).to_string());
        let stages = self.stages().into_iter().map(|(name, stage)| match stage {
            None => format!("{name} –"),
            Some(it) => format!(
                "{name} {:.2} ({} / {})",
                millis(it.mean),
                bound(it.p50),
                bound(it.p99)
            ),
        });
        stages.collect::<Vec<_>>().join(", ")
    }

    pub fn json(&self) -> Value {
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let stages = self.stages().into_iter().map(|(name, stage)| {
            let figures = stage.map(|it| {
                json!({
                    "count": it.count,
                    "mean_ms": millis(it.mean),
                    "p50_at_most_ms": it.p50.map(millis),
                    "p99_at_most_ms": it.p99.map(millis),
                })
            });
            (name.to_owned(), figures.unwrap_or_default())
        });
        Value::Object(stages.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages(values: &[(&str, f64)]) -> Stages {
        let values = values.iter();
        Stages(
            values
                .map(|(name, value)| ((*name).to_owned(), *value))
                .collect(),
        )
    }

    fn look(below: [f64; 3], sum: f64) -> Stages {
        stages(&[
            (
                "dd_stage_seconds_bucket{le=\"0.001\",stage=\"synced\"}",
                below[0],
            ),
            (
                "dd_stage_seconds_bucket{le=\"0.01\",stage=\"synced\"}",
                below[1],
            ),
            (
                "dd_stage_seconds_bucket{le=\"+Inf\",stage=\"synced\"}",
                below[2],
            ),
            ("dd_stage_seconds_count{stage=\"synced\"}", below[2]),
            ("dd_stage_seconds_sum{stage=\"synced\"}", sum),
        ])
    }

    #[test]
    fn what_was_before_the_first_look_does_not_count() {
        let between = look([150.0, 199.0, 200.0], 1.2).since(&look([100.0, 100.0, 100.0], 1.0));
        let stage = between.stage("synced").unwrap();
        assert!((stage.count - 100.0).abs() < 1e-9);
        assert_eq!(stage.mean, Duration::from_millis(2));
        assert_eq!(stage.p50, Some(Duration::from_millis(1)));
        assert_eq!(stage.p99, Some(Duration::from_millis(10)));
    }

    #[test]
    fn above_all_bounds_there_is_no_figure_and_without_messages_no_stage() {
        let slow = look([0.0, 0.0, 10.0], 1.0);
        assert_eq!(slow.stage("synced").unwrap().p50, None);
        assert!(slow.stage("settled").is_none());
        assert!(slow.since(&slow).stage("synced").is_none());
    }

    #[test]
    fn only_the_opening_connects() {
        let connected = |count| {
            stages(&[
                (
                    "dd_stage_seconds_bucket{le=\"0.1\",stage=\"connected\"}",
                    count,
                ),
                ("dd_stage_seconds_count{stage=\"connected\"}", count),
                ("dd_stage_seconds_sum{stage=\"connected\"}", count * 0.05),
            ])
        };
        let mut staged = Staged {
            opening: connected(1.0),
            flowing: look([98.0, 99.0, 100.0], 0.1),
        };
        staged.opening.add(&look([0.0, 0.0, 100.0], 100.0));
        let text = staged.text();
        assert!(
            text.starts_with("synced 1.00 (1 / 10), assigned –, connected 50.00 (100 / 100)"),
            "{text}"
        );
    }
}
