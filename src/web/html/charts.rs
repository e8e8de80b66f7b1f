//! Pictures of numbers, drawn as SVG on the server: they need no script and no style of their own.

use crate::key;
use std::fmt::Write;

use crate::domain::language::Language;
use crate::ports::statistics::Flow;
use crate::web::html::formatter::Formatter;
use crate::web::html::language::Key;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 100.0;
/// One of the numbers of a bucket.
type Part = fn(&Flow) -> u64;
const LINES: [(&str, Key, Part); 3] = [
    ("received", key!("received"), |flow| flow.received),
    ("confirmed", key!("confirmed"), |flow| flow.confirmed),
    ("failed", key!("failed"), |flow| flow.failed),
];

/// Received, confirmed and failed orders over time.
pub fn flow_chart(formatter: &Formatter, flow: &[Flow]) -> String {
    let language = formatter.language;
    let top = flow.iter().flat_map(|f| LINES.map(|(_, _, of)| of(f))).max().unwrap_or(0).max(1);
    let mut svg = String::new();
    let mut legend = String::new();
    let mut told = Vec::new();
    for (class, key, of) in LINES {
        let name = language.t(key);
        let sum: u64 = flow.iter().map(of).sum();
        told.push(format!("{name}: {}", language.number(sum)));
        let points: Vec<String> =
            flow.iter().enumerate().map(|(i, f)| point(i, flow.len(), of(f), top)).collect();
        let points = points.join(" ");
        put(&mut svg, format_args!(r#"<polyline class="{class}" points="{points}"/>"#));
        put(
            &mut legend,
            format_args!(
                r#"<span><svg viewBox="0 0 32 6" aria-hidden="true"><line class="{class}" x1="0" y1="3" x2="32" y2="3"/></svg> {name} <b>{}</b></span>"#,
                language.number(sum)
            ),
        );
    }
    let time =
        |index: usize| flow.get(index).map(|f| formatter.time_html(f.at)).unwrap_or_default();
    format!(
        r#"<div class="legend">{legend}</div><div class="chart"><div class="y"><span class="top-label">{}</span><span class="zero-label">0</span></div><svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{}">{svg}</svg><div class="x"><span>{}</span><span>{}</span><span>{}</span></div></div>"#,
        language.number(top),
        told.join(", "),
        time(0),
        time(flow.len() / 2),
        language.t(key!("now")),
    )
}

fn point(index: usize, count: usize, value: u64, top: u64) -> String {
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    let x = WIDTH * share(index, count.saturating_sub(1));
    let y = HEIGHT - (HEIGHT - 2.0) * (value as f64 / top as f64) - 1.0;
    format!("{x:.1},{y:.1}")
}

/// Failures hour by hour as small bars.
pub fn sparkline(language: Language, values: &[u64]) -> String {
    let top = values.iter().copied().max().unwrap_or(0).max(1);
    let mut bars = String::new();
    for (index, value) in values.iter().enumerate() {
        let height = if *value == 0 { 1.0 } else { (20.0 * (*value as f64) / top as f64).max(2.0) };
        let class = if *value == 0 { "none" } else { "some" };
        let (x, y) = (index * 5, 21.0 - height);
        put(
            &mut bars,
            format_args!(
                r#"<rect class="{class}" x="{x}" y="{y:.1}" width="4" height="{height:.1}"/>"#
            ),
        );
    }
    let sum: u64 = values.iter().sum();
    let told = language.fill(key!("{n} failures in 24 hours"), &[("n", &language.number(sum))]);
    let width = values.len().max(1) * 5;
    format!(
        r#"<svg class="spark" viewBox="0 0 {width} 21" preserveAspectRatio="none" role="img" aria-label="{told}">{bars}</svg>"#
    )
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    text.write_fmt(what).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_value_is_at_the_top_and_zero_at_the_bottom() {
        assert_eq!(point(0, 2, 10, 10), "0.0,1.0");
        assert_eq!(point(1, 2, 0, 10), "1000.0,99.0");
        assert_eq!(point(0, 1, 0, 1), "0.0,99.0");
    }

    #[test]
    fn an_hour_without_failures_is_a_line_and_one_with_some_is_seen() {
        let svg = sparkline(Language::En, &[0, 1, 1000]);
        assert_eq!(svg.matches("<rect").count(), 3);
        assert!(
            svg.contains(r#"class="none""#) && svg.contains("1,001 failures in 24 hours"),
            "{svg}"
        );
    }
}
