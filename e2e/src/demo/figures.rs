//! Figures: `figure NAME VALUE UNIT` lines for people and scripts, and the same as JSON.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Context, Result};
use serde_json::json;

/// One measured number.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) value: f64,
    pub(super) unit: &'static str,
}

impl Figure {
    /// A count.
    pub(super) fn count(name: &'static str, value: u64, unit: &'static str) -> Figure {
        // Counts of a demo are far below 2^53.
        let value = u32::try_from(value).map_or(f64::INFINITY, f64::from);
        Figure { name, value, unit }
    }

    /// Milliseconds, to the microsecond.
    pub(super) fn ms(name: &'static str, value: f64) -> Figure {
        Figure { name, value: (value * 1000.0).round() / 1000.0, unit: "ms" }
    }
}

/// The lines.
pub(super) fn lines(figures: &[Figure]) -> String {
    let mut text = String::new();
    for Figure { name, value, unit } in figures {
        writeln!(text, "figure {name} {value} {unit}").expect("writing to text cannot fail");
    }
    text
}

/// Writes them as JSON.
pub(super) fn write_json(path: &Path, figures: &[Figure]) -> Result<()> {
    let object =
        |figure: &Figure| json!({"name": figure.name, "value": figure.value, "unit": figure.unit});
    let figures: Vec<_> = figures.iter().map(object).collect();
    let text = format!("{:#}\n", json!({ "figures": figures }));
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_plain_numbers() {
        let figures = [Figure::count("a", 12_000_000, "keys"), Figure::ms("b", 1.234_567)];
        assert_eq!(lines(&figures), "figure a 12000000 keys\nfigure b 1.235 ms\n");
    }
}
