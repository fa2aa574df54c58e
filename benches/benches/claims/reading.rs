//! What somebody sees who types `talkbox read` with 10,000 messages stored and the key in a plain file.
//!
//! The mailbox is made and filled by the command itself (`new`, `import`), and lives on a relay that is up. Each reading
//! begins with a copy of the folder, so that each finds all of it unread.

use std::{fs, io, path::Path};

use talkbox_benches::{Bound, Report, Row, duration};

use crate::{
    peers::{self, Peer, Seen},
    supply::{MANY, Supply},
};

const READINGS: usize = 21;
/// A mailbox that is a tenth as full, to set the memory beside.
const FEW: usize = MANY / 10;

pub(crate) fn claims(supply: &Supply, report: &Report) -> io::Result<()> {
    let node = Peer::node()?;
    let folder = tempfile::tempdir()?;
    let mut seen = Vec::new();
    for count in [FEW, MANY] {
        let home = folder.path().join(count.to_string());
        let imported = fill(supply, &home, node.url(), count)?;
        report.add([Row {
            claim: format!("talkbox import of {count} envelopes, each verified and opened"),
            by: "wall",
            ours: duration(imported.last),
            theirs: "–".to_owned(),
            figure: count as f64 / imported.last.as_secs_f64(),
            unit: "/s",
            bound: None,
        }])?;
        let copy = folder.path().join("copy");
        let mut readings = Vec::with_capacity(READINGS);
        for _ in 0..READINGS {
            copy_folder(&home, &copy)?;
            let reading = peers::run(&copy, &["read"])?;
            assert_eq!(reading.lines, count, "all of it is printed");
            readings.push(reading);
            fs::remove_dir_all(&copy)?;
        }
        seen.push(readings);
    }
    node.end();
    report.add(rows(&seen[0], &seen[1]))
}

fn rows(few: &[Seen], many: &[Seen]) -> [Row; 4] {
    let median = |seen: &[Seen], of: fn(&Seen) -> f64| {
        let mut figures: Vec<f64> = seen.iter().map(of).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let first = |seen: &Seen| seen.first.as_secs_f64() * 1e3;
    let last = |seen: &Seen| seen.last.as_secs_f64() * 1e3;
    let peak = |seen: &Seen| seen.peak_kib as f64 / 1024.0;
    let row = |claim: &str, by, of: fn(&Seen) -> f64, unit: &'static str, bound| Row {
        claim: format!("talkbox read of {MANY} messages: {claim}, beside {FEW} ({} runs)", many.len()),
        by,
        ours: format!("{:.1} {unit}", median(many, of)),
        theirs: format!("{:.1} {unit}", median(few, of)),
        figure: median(many, of),
        unit,
        bound,
    };
    let latest = many.iter().map(first).fold(0.0, f64::max);
    [
        row("first output", "wall", first, "ms", Some(Bound::AtMost(100.0))),
        Row { figure: latest, ..row("first output, the latest", "wall", first, "ms", None) },
        row("all, and the network", "wall", last, "ms", None),
        // Ten times the messages, and not a page more: 512 messages of 24 KiB at worst, which here are of 200 bytes.
        Row {
            figure: median(many, peak) / median(few, peak),
            unit: "×",
            ..row("memory", "peak", peak, "MiB", Some(Bound::AtMost(1.25)))
        },
    ]
}

/// A mailbox with so many messages.
fn fill(supply: &Supply, home: &Path, relay: &str, count: usize) -> io::Result<Seen> {
    fs::create_dir(home)?;
    fs::write(home.join("config.toml"), format!("backend = \"nostr\"\n[backends.nostr]\nrelays = [\"{relay}\"]\n"))?;
    let (secret, envelopes) = (home.join("nsec"), home.join("envelopes"));
    fs::write(&secret, supply.owner.to_nsec().as_bytes())?;
    let text = |path: &Path| path.to_str().expect("a temporary folder has a plain name").to_owned();
    peers::run(home, &["new", "--nsec-file", &text(&secret), "--plain-key", "--no-announce"])?;
    let lines: Vec<&str> = supply.many()[..count].iter().map(|envelope| envelope.json()).collect();
    fs::write(&envelopes, lines.join("\n"))?;
    let imported = peers::run(home, &["import", &text(&envelopes)])?;
    fs::remove_file(envelopes)?;
    Ok(imported)
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
