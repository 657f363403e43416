//! The curves, as an SVG: hit ratio over cache size, sizes on a logarithmic scale.

use super::{Row, Series};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 60.0;

/// Line and whether it is dashed.
fn style(series: Series) -> (&'static str, &'static str) {
    match series {
        Series::Engine => ("#c0392b", ""),
        Series::EngineLru => ("#e59866", "5 4"),
        Series::Lru => ("#2471a3", ""),
        Series::S3Fifo => ("#1e8449", "8 3"),
        Series::Memcached => ("#7d3c98", "3 3"),
        Series::Opt => ("#7f8c8d", ""),
    }
}

/// Draws all series.
pub(super) fn draw(name: &str, rows: &[Row]) -> String {
    let first = rows.first().map_or(1.0, |row| row.per_mille as f64);
    let last = rows.last().map_or(10.0, |row| row.per_mille as f64);
    let x = |row: &Row| {
        let share = (row.per_mille as f64 / first).ln() / (last / first).ln().max(1e-9);
        LEFT + share * (WIDTH - LEFT - RIGHT)
    };
    let y = |ratio: f64| HEIGHT - BOTTOM - ratio * (HEIGHT - TOP - BOTTOM);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">Hit ratio: {name}</text>\n"
    );
    for tenth in 0..=10_u32 {
        let ratio = f64::from(tenth) / 10.0;
        let (at, right) = (y(ratio), WIDTH - RIGHT);
        out += &format!(
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{} %</text>\n",
            LEFT - 6.0,
            at + 4.0,
            tenth * 10
        );
    }
    for row in rows {
        out += &format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}.{} %</text>\n",
            x(row),
            HEIGHT - BOTTOM + 18.0,
            row.per_mille / 10,
            row.per_mille % 10
        );
    }
    out += &format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">memory, in percent of what all keys take</text>\n",
        WIDTH / 2.0,
        HEIGHT - 14.0
    );
    for (at, series) in Series::ALL.into_iter().enumerate() {
        let (colour, dashes) = style(series);
        let points: Vec<String> =
            rows.iter().map(|row| format!("{:.1},{:.1}", x(row), y(row.ratios[at]))).collect();
        out += &format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>\n",
            points.join(" ")
        );
        let (line, left) = (TOP + 16.0 * (at as f64 + 1.0), LEFT + 14.0);
        out += &format!(
            "<line x1=\"{left}\" y1=\"{line}\" x2=\"{}\" y2=\"{line}\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>\n\
             <text x=\"{}\" y=\"{}\">{}</text>\n",
            left + 24.0,
            left + 30.0,
            line + 4.0,
            series.names().1
        );
    }
    out + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_has_a_curve() {
        let row = |per_mille, ratio| Row {
            per_mille,
            memory_bytes: 1,
            items: 1,
            ratios: [ratio; Series::ALL.len()],
        };
        let svg = draw("x", &[row(10, 0.25), row(100, 0.5)]);
        assert_eq!(svg.matches("<polyline").count(), Series::ALL.len());
        assert!(svg.contains("points=\"60.0,310.0 740.0,220.0\""), "{svg}");
    }
}
