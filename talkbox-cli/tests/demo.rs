//! The demo does what it shows.

mod common;

use common::{Home, settings};

#[test]
fn the_demo_ends_well_and_leaves_nothing() {
    let home = Home::new();
    let mut command = home.command(["demo"]);
    command.env("TMPDIR", home.path());
    let shown = common::run(command, None).success();
    let mut settings = settings(&home);
    settings.add_filter(r"secret   \w+", "secret   [word]");
    settings.add_filter(r"\(\d+\.\d s\)", "([seconds])");
    settings.bind(|| insta::assert_snapshot!("demo", shown.shown()));
    assert_eq!(std::fs::read_dir(home.path()).expect("listed").count(), 0, "nothing is left");
}

#[test]
fn the_demo_speaks_json() {
    let home = Home::new();
    let lines = home.lines(["demo"]);
    let names: Vec<&str> = lines.iter().filter_map(|line| line["name"].as_str()).collect();
    assert_eq!(names, ["node", "new", "new", "send", "typo", "crash", "read", "reply", "read"]);
    assert_eq!(lines.last().expect("an end")["demo"], "ok");
}

#[test]
fn the_phases_lose_nothing() {
    let home = Home::new();
    let lines = home.lines(["demo", "--phases"]);
    let ids = |name: &str| -> Vec<(String, usize)> {
        let steps = lines.iter().filter(|line| line["name"] == name);
        steps
            .map(|line| {
                let ids = line["result"]["ids"].as_array().expect("ids");
                (line["result"]["backend"].as_str().expect("a backend").to_owned(), ids.len())
            })
            .collect()
    };
    let of = |backend: &str, number| (backend.to_owned(), number);
    assert_eq!(ids("read"), [of("nostr", 2), of("hybrid", 4), of("ipfs", 6)]);
    assert_eq!(ids("switch"), [of("hybrid", 2), of("ipfs", 4)]);
    assert_eq!(ids("restore"), [of("nostr", 2), of("hybrid", 4), of("ipfs", 6)]);
    assert_eq!(lines.last().expect("an end")["demo"], "ok");
}
