//! Rounds of both servers in turn, many and short.
//!
//! What else the machine does meets both of a pair alike, so a ratio is computed within each pair; of figures and ratios
//! the median counts. Who begins changes from pair to pair.

use super::server::System;

/// The same of both, one right after the other.
#[derive(Debug, Clone, Copy)]
pub struct Pair<T> {
    pub ours: T,
    pub postfix: T,
}

/// All pairs of a row.
#[derive(Debug, Clone)]
pub struct Pairs<T>(pub Vec<Pair<T>>);

impl<T> Pair<T> {
    /// `first` begins.
    pub fn take(first: System, mut turn: impl FnMut(System) -> T) -> Self {
        match first {
            System::Ours => {
                let ours = turn(System::Ours);
                let postfix = turn(System::Postfix);
                Self { ours, postfix }
            }
            System::Postfix => {
                let postfix = turn(System::Postfix);
                let ours = turn(System::Ours);
                Self { ours, postfix }
            }
        }
    }
}

impl<T> Pairs<T> {
    pub fn take(count: usize, mut turn: impl FnMut(System) -> T) -> Self {
        let pairs = (0..count).map(|number| {
            let first = match number % 2 {
                0 => System::Ours,
                _ => System::Postfix,
            };
            Pair::take(first, &mut turn)
        });
        Self(pairs.collect())
    }

    pub fn ours(&self, key: impl Fn(&T) -> f64) -> f64 {
        median(self.0.iter().map(|pair| key(&pair.ours)))
    }

    pub fn postfix(&self, key: impl Fn(&T) -> f64) -> f64 {
        median(self.0.iter().map(|pair| key(&pair.postfix)))
    }

    /// Ours in parts of Postfix's.
    pub fn ratio(&self, key: impl Fn(&T) -> f64) -> f64 {
        let ratios = self.0.iter();
        median(ratios.map(|pair| key(&pair.ours) / key(&pair.postfix)))
    }
}

/// The middle one, or the mean of the middle two.
///
/// # Panics
/// There are none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = ((values.len() - 1) / 2, values.len() / 2);
    f64::midpoint(values[low], values[high])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_counts() {
        assert!((median([9.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median([9.0, 1.0, 2.0, 4.0]) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_ratio_is_that_of_neighbours() {
        // The machine is three times as fast in the first pair: the ratio of the medians would be another one.
        let pair = |ours, postfix| Pair { ours, postfix };
        let pairs = Pairs(vec![pair(30.0, 15.0), pair(10.0, 5.0), pair(12.0, 30.0)]);
        assert!((pairs.ratio(|value: &f64| *value) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn who_begins_changes() {
        let mut turns = Vec::new();
        let _ = Pairs::take(2, |system| turns.push(system));
        let [ours, postfix] = [System::Ours, System::Postfix];
        assert_eq!(turns, [ours, postfix, postfix, ours]);
    }
}
