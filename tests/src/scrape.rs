//! `/metrics`, as Prometheus reads it.

use std::collections::BTreeMap;

use crate::http::curl;
use crate::world::World;

/// The values of one look, each under its name with its labels as they are written.
#[derive(Debug)]
pub struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// # Panics
    /// There are none, or a line is no value.
    #[track_caller]
    pub fn of(world: &World) -> Self {
        let answer = curl(&[&format!("http://{}/metrics", world.listeners().metrics)]);
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.body.ends_with("# EOF\n"), "{}", answer.body);
        let lines = answer.body.lines().filter(|line| !line.starts_with('#'));
        let values = lines.map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            let value = value.parse().expect("a value is a number");
            (name.to_owned(), value)
        });
        Self(values.collect())
    }

    /// The value of this name, labels included.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn value(&self, name: &str) -> f64 {
        let names = || self.0.keys().map(String::as_str).collect::<Vec<_>>();
        let value = self.0.get(name);
        *value.unwrap_or_else(|| panic!("no {name} among {:#?}", names()))
    }

    /// All names, labels included.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
