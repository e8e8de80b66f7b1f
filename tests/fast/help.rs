//! What the command line says about itself: help for every command and argument, examples that can be typed.

use clap::CommandFactory;
use order_relay::cli::args::Cli;

/// Every command with its path, groups included.
fn commands(command: &clap::Command, path: &[String]) -> Vec<(Vec<String>, clap::Command)> {
    let mut all = Vec::new();
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let path: Vec<String> = [path, &[sub.get_name().to_owned()]].concat();
        all.push((path.clone(), sub.clone()));
        all.extend(commands(sub, &path));
    }
    all
}

#[test]
fn every_command_explains_itself() {
    let all = commands(&Cli::command(), &[]);
    assert!(all.len() > 35, "{} commands", all.len());
    for (path, command) in all {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(about.len() > 5, "{path:?} does not say what it does");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{path:?} {} has no help", argument.get_id());
        }
    }
}

#[test]
fn every_change_takes_dry_run_yes_and_reason_and_every_listing_its_format() {
    let all = commands(&Cli::command(), &[]);
    for (path, command) in &all {
        let takes = |name: &str| command.get_arguments().any(|a| a.get_long() == Some(name));
        let path = path.join(" ");
        if takes("reason") {
            assert!(takes("dry-run") && takes("yes"), "{path}");
        }
        if path.ends_with("list") || path.ends_with("show") && path != "config schema" {
            assert!(takes("output"), "{path}");
        }
    }
    for change in [
        "lost-orders process",
        "lost-orders remove",
        "lost-orders restore",
        "orders settle-double",
        "lost-orders accept-total",
        "process-lost-orders",
        "dead-letters replay",
        "dead-letters discard",
    ] {
        let (_, command) = all.iter().find(|(path, _)| path.join(" ") == change).expect(change);
        assert!(command.get_arguments().any(|a| a.get_long() == Some("reason")), "{change}");
    }
}

#[test]
fn examples_in_help_can_be_typed() {
    let mut seen = 0;
    for (path, command) in commands(&Cli::command(), &[]) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in help.lines().map(str::trim) {
            let Some(at) = line.find("order-relay ") else { continue };
            let line = line[at..].split("  ").next().unwrap_or_default();
            let line = line.split(['>', '|']).next().unwrap_or_default();
            let words = crate::docs::words(line);
            let parsed = Cli::command().try_get_matches_from(&words);
            assert!(parsed.is_ok(), "{path:?}: {words:?}: {}", parsed.unwrap_err());
            seen += 1;
        }
    }
    assert!(seen > 25, "{seen} examples");
}
