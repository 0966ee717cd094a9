//! The alerts and the dashboard that packages install name metrics that are there.

use std::collections::BTreeSet;

use dd_tests::scrape::Scrape;
use dd_tests::world::World;

const RULES: &str = include_str!("../../../packaging/share/dd.rules.yml");
const DASHBOARD: &str = include_str!("../../../packaging/share/dd.grafana.json");

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_are_there() {
    let world = World::start();
    let scrape = Scrape::of(&world);
    let names = scrape.names().map(|name| name.split('{').next().unwrap());
    let there: BTreeSet<&str> = names.collect();
    let asked = named(RULES).chain(named(DASHBOARD));
    let lacking: BTreeSet<&str> = asked.filter(|name| !there.contains(name)).collect();
    assert!(lacking.is_empty(), "{lacking:?} are not among {there:?}");
}

#[test]
fn version_ends_of_certificates_and_why_sites_wait_are_measured() {
    let world = World::start();
    let scrape = Scrape::of(&world);
    let version = env!("CARGO_PKG_VERSION");
    let info = scrape.value(&format!("dd_build_info{{version=\"{version}\"}}"));
    assert!((info - 1.0).abs() < f64::EPSILON);
    let now = scrape.value("dd_start_time_seconds");
    for end in [
        "dd_certificate_end_time_seconds{of=\"intake\"}",
        "dd_authority_end_time_seconds{authority=\"member-ca\"}",
    ] {
        assert!(scrape.value(end) > now, "{end}");
    }
    world.add_home("away", "127.0.0.1:9".parse().unwrap(), &[]);
    world.queue("away", 1);
    let down = Scrape::of(&world).value("dd_sites_waiting{why=\"down\"}");
    assert!((down - 1.0).abs() < f64::EPSILON, "{down}");
}

/// What looks like the name of a metric.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let words = text.split(word);
    words.filter(|word| word.starts_with("dd_"))
}
