//! [`Figures`]: one line per result, `figure NAME VALUE UNIT`, and the same as JSON.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};

/// What was measured so far.
#[derive(Debug, Default)]
pub struct Figures {
    all: BTreeMap<String, (f64, String)>,
}

impl Figures {
    /// Says a result, and keeps it.
    #[expect(clippy::print_stdout, reason = "this is what a benchmark is for")]
    pub fn say(&mut self, name: &str, value: f64, unit: &str) {
        println!("figure {name} {} {unit}", rounded(value));
        self.all.insert(name.to_owned(), (value, unit.to_owned()));
    }

    /// Writes everything as one JSON object: `{"NAME": {"value": 1.0, "unit": "s"}}`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let entry = |(name, (value, unit)): (&String, &(f64, String))| {
            (name.clone(), serde_json::json!({ "value": value, "unit": unit }))
        };
        let all: serde_json::Map<String, serde_json::Value> = self.all.iter().map(entry).collect();
        let text = serde_json::to_string_pretty(&all).context("write figures as JSON")?;
        std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
    }
}

/// The middle one of some measurements; 0 of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Four digits are more than a benchmark knows.
fn rounded(value: f64) -> String {
    match value.abs() {
        large if large >= 1000.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown: Vec<String> =
            [0.12345, 12.345, 123_456.7, 0.0].into_iter().map(rounded).collect();
        assert_eq!(shown, ["0.123", "12.3", "123457", "0.000"]);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]).to_string(), "2");
        assert_eq!(median(Vec::new()).to_string(), "0");
    }
}
