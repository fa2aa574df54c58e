//! Every command explains itself, and every mistake in typing one is told.

mod common;

use common::{Home, settings};

const COMMANDS: [&str; 19] = [
    "new",
    "id",
    "send",
    "read",
    "open",
    "watch",
    "reply",
    "delete",
    "outbox",
    "status",
    "log",
    "pin",
    "config",
    "backend",
    "conformance",
    "node",
    "export",
    "import",
    "demo",
];

#[test]
fn the_program_explains_itself() {
    let home = Home::new();
    settings(&home).bind(|| insta::assert_snapshot!("help", home.run(["--help"]).shown()));
}

#[test]
fn every_command_explains_itself() {
    let home = Home::new();
    settings(&home).bind(|| {
        for command in COMMANDS {
            insta::assert_snapshot!(format!("help-{command}"), home.run([command, "--help"]).shown());
        }
        for command in ["ls", "flush", "cancel", "retry"] {
            insta::assert_snapshot!(format!("help-outbox-{command}"), home.run(["outbox", command, "--help"]).shown());
        }
    });
}

#[test]
fn mistakes_in_typing_are_told() {
    let home = Home::new();
    settings(&home).bind(|| {
        insta::assert_snapshot!("usage-command", home.run(["sned"]).ends(2).shown());
        insta::assert_snapshot!("usage-flag", home.run(["read", "--unraed"]).ends(2).shown());
        insta::assert_snapshot!("usage-json", home.run(["read", "--limit", "0", "--json"]).ends(2).shown());
    });
}

#[test]
fn no_secret_is_ever_an_argument() {
    let home = Home::new();
    for command in COMMANDS {
        let help = home.run([command, "--help"]).success().stdout;
        for line in help.lines().map(str::trim_start).filter(|line| line.starts_with("--")) {
            let secret =
                ["--passphrase <", "--words <", "--nsec <", "--password <"].iter().any(|flag| line.starts_with(flag));
            assert!(!secret, "{command}: {line}");
        }
    }
}
