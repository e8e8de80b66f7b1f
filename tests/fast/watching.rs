//! Alert rules and the dashboard speak of metrics that exist, and each alert leads to what to do.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use regex::Regex;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn all(pattern: &str, text: &str) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).expect("a good pattern");
    pattern.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

/// The names of the table in docs/operations.md, as Prometheus stores them, without what it adds to histograms.
fn documented() -> BTreeSet<String> {
    let text = read("docs/operations.md");
    let (_, table) = text.split_once("| metric | kind | meaning |").expect("the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let names = rows.flat_map(|row| {
        let names = row.split('|').nth(1).unwrap_or_default();
        all(r"`([a-z_]+)", names)
    });
    names.map(|name| format!("order_relay_{name}")).collect()
}

#[test]
fn every_metric_of_rules_and_dashboard_exists_and_each_metric_is_shown() {
    let documented = documented();
    let names = |path: &str| -> BTreeSet<String> {
        let named = all(r"(order_relay_[a-z_]+)", &read(path));
        named
            .into_iter()
            .map(|name| name.strip_suffix("_bucket").unwrap_or(&name).to_owned())
            .collect()
    };
    let ruled = names("deploy/prometheus/order-relay.rules.yml");
    let unknown: Vec<_> = ruled.difference(&documented).collect();
    assert!(unknown.is_empty(), "the rules name metrics that do not exist: {unknown:?}");
    assert_eq!(names("deploy/grafana/order-relay.json"), documented, "the dashboard shows each");
}

#[test]
fn each_alert_has_its_section_of_the_runbook_and_its_test() {
    let rules = read("deploy/prometheus/order-relay.rules.yml");
    let alerts = all(r"(?m)- alert: (\S+)$", &rules);
    assert!(!alerts.is_empty());
    assert_eq!(all(r"(?m)^## (OrderRelay\S+)$", &read("docs/runbook.md")), alerts);
    let anchors: BTreeSet<String> = alerts.iter().map(|alert| alert.to_lowercase()).collect();
    assert_eq!(all(r#"runbook: "docs/runbook.md#(\S+)""#, &rules), anchors);
    let tests = read("deploy/prometheus/order-relay.rules.test.yml");
    assert_eq!(all(r"(?m)alertname: (\S+)$", &tests), alerts);
}
