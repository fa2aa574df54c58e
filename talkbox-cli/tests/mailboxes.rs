//! Making mailboxes, taking them over, and showing their public side.

mod common;

use common::{Home, settings};

const WORDS: &str = "leader monkey parrot ring guide accident before fence cannon height naive bean";
const PHRASE: &str = "orbit velvet canyon marble sunset hazard pioneer lantern";

#[test]
fn a_new_mailbox_is_kept_and_shown() {
    let home = Home::new();
    settings(&home).bind(|| {
        insta::assert_snapshot!("new", home.run(["new", "tips", "--plain-key"]).shown());
        insta::assert_snapshot!("new-again", home.run(["new", "tips", "--plain-key"]).ends(2).shown());
        insta::assert_snapshot!("id", home.run(["id"]).shown());
        insta::assert_snapshot!("id-json", home.run(["id", "--json"]).shown());
        insta::assert_snapshot!("id-npub", home.run(["id", "tips", "--npub"]).shown());
        insta::assert_snapshot!("id-link", home.run(["id", "--link"]).shown());
        insta::assert_snapshot!("id-link-host", home.run(["id", "--link", "https://tips.example/"]).shown());
        insta::assert_snapshot!("id-unknown", home.run(["id", "tipps"]).ends(3).shown());
        insta::assert_snapshot!("id-unknown-json", home.run(["id", "tipps", "--json"]).ends(3).shown());
    });
}

#[test]
fn a_qr_code_is_square() {
    let home = Home::new();
    home.run(["new", "--plain-key"]).success();
    let shown = home.run(["id", "--qr"]).success();
    let lines: Vec<&str> = shown.stdout.lines().collect();
    let (picture, code) = lines.split_at(lines.len() - 1);
    assert_eq!(code, [home.code()]);
    let width = picture[0].chars().count();
    assert!(picture.iter().all(|line| line.chars().count() == width));
    assert_eq!(picture.len(), width.div_ceil(2));
    assert_ne!(home.run(["id", "--qr", "--inverted"]).success().stdout, shown.stdout);
}

#[test]
fn without_a_terminal_nothing_secret_is_asked_or_shown() {
    let home = Home::new();
    settings(&home).bind(|| {
        insta::assert_snapshot!("new-no-terminal", home.run(["new"]).ends(6).shown());
        insta::assert_snapshot!("new-json", home.run(["new", "--plain-key", "--json"]).success().shown());
        insta::assert_snapshot!(
            "import-no-terminal",
            home.run(["new", "x", "--plain-key", "--import"]).ends(6).shown()
        );
    });
}

#[test]
fn words_make_the_same_mailbox_everywhere() {
    let (one, other) = (Home::new(), Home::new());
    let words = other.write("words", &format!("{WORDS}\n"));
    let from_stdin = ["new", "--plain-key", "--words-file", "-"];
    let code = one.run_with_input(from_stdin, WORDS.to_uppercase().as_bytes()).success().stdout;
    let words = words.display().to_string();
    assert_eq!(other.run(["new", "--plain-key", "--words-file", &words]).success().stdout, code);
    // NIP-06's own vector.
    assert_eq!(one.secret("main").id().to_hex(), "17162c921dc4d2518f9a101db33695df1afb56ab82f5ff3e5da6eec3ca5cd917");
    let second = other.run(["new", "second", "--plain-key", "--words-file", &words, "--account", "1"]).success().stdout;
    assert_ne!(second, code);
}

#[test]
fn wrong_words_are_told_and_not_repeated() {
    let home = Home::new();
    let run = |words: &str| home.run_with_input(["new", "--plain-key", "--words-file", "-"], words.as_bytes()).ends(2);
    settings(&home).bind(|| {
        insta::assert_snapshot!("words-misspelt", run(&WORDS.replace("monkey", "monkex")).shown());
        insta::assert_snapshot!("words-order", run(&WORDS.replace("monkey parrot", "parrot monkey")).shown());
        insta::assert_snapshot!("words-few", run("leader monkey").shown());
    });
}

#[test]
fn new_words_are_saved_on_request_and_open_the_mailbox_again() {
    let (one, other) = (Home::new(), Home::new());
    let file = one.path().join("words").display().to_string();
    let made = one.run(["new", "--plain-key", "--save-words", &file]).success();
    assert!(!made.stderr.contains("recovery words were not shown"));
    let code = other.run(["new", "--plain-key", "--words-file", &file]).success().stdout;
    assert_eq!(code, made.stdout);
    one.run(["new", "more", "--plain-key", "--save-words", &file]).ends(2);
}

#[test]
fn a_passphrase_belongs_to_its_name_and_a_typo_is_noticed() {
    let home = Home::new();
    let phrase = home.write("phrase", PHRASE).display().to_string();
    let typo = home.write("typo", &PHRASE.replace("velvet", "velvets")).display().to_string();
    let made = home.run(["new", "tips", "--plain-key", "--passphrase-file", &phrase]).success();
    settings(&home).bind(|| {
        insta::assert_snapshot!("passphrase", made.shown());
        let again = home.run(["new", "tips", "--passphrase-file", &phrase]).success();
        assert_eq!(again.stdout, made.stdout);
        insta::assert_snapshot!("passphrase-known", again.shown());
        let wrong = home.run(["new", "tips", "--passphrase-file", &typo, "--i-know-this-is-weak"]).ends(6);
        insta::assert_snapshot!("passphrase-typo", wrong.shown());
    });
    let other = Home::new();
    let code = made.stdout.trim();
    let elsewhere = ["new", "work", "--plain-key", "--passphrase-file", &phrase, "--expect", code];
    other.run(elsewhere).ends(6);
    assert!(!other.path().join("mailboxes/work.json").exists(), "nothing was kept");
    let elsewhere = ["new", "tips", "--plain-key", "--passphrase-file", &phrase, "--expect", code];
    assert_eq!(other.run(elsewhere).success().stdout, made.stdout);
}

#[test]
fn a_weak_passphrase_needs_a_flag_and_is_warned_about() {
    let home = Home::new();
    let phrase = home.write("phrase", "password123").display().to_string();
    settings(&home).bind(|| {
        let refused = home.run(["new", "tips", "--plain-key", "--passphrase-file", &phrase]).ends(2);
        insta::assert_snapshot!("passphrase-weak", refused.shown());
        let flags = ["new", "tips", "--plain-key", "--passphrase-file", &phrase, "--i-know-this-is-weak"];
        insta::assert_snapshot!("passphrase-weak-accepted", home.run(flags).success().shown());
    });
}

#[cfg(unix)]
#[test]
fn a_passphrase_comes_through_a_file_descriptor() {
    let home = Home::new();
    let phrase = home.write("phrase", PHRASE).display().to_string();
    let code = home.run(["new", "tips", "--plain-key", "--passphrase-file", &phrase]).success().stdout;
    let other = Home::new();
    let script = "exec \"$0\" new tips --plain-key --passphrase-fd 7 7<\"$1\"";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_talkbox"), &phrase]).env("TALKBOX_HOME", other.path());
    assert_eq!(common::run(command, None).success().stdout, code);
}

#[test]
fn an_nsec_is_taken_over_and_a_public_key_is_not() {
    let (one, other) = (Home::new(), Home::new());
    one.run(["new", "--plain-key"]).success();
    let nsec = one.secret("main").to_nsec();
    let taken = other.run_with_input(["new", "--plain-key", "--nsec-file", "-"], nsec.as_bytes()).success();
    assert_eq!(taken.stdout.trim(), one.code());
    let npub = one.run(["id", "--npub"]).success().stdout;
    settings(&other).bind(|| {
        let refused = other.run_with_input(["new", "b", "--plain-key", "--nsec-file", "-"], npub.as_bytes()).ends(2);
        insta::assert_snapshot!("nsec-npub", refused.shown());
    });
}

#[test]
fn keys_are_encrypted_with_one_password() {
    let home = Home::new();
    let right = home.write("right", "correct horse\n").display().to_string();
    let wrong = home.write("wrong", "battery staple\n").display().to_string();
    home.run(["new", "tips", "--password-file", &right]).success();
    let kept = std::fs::read_to_string(home.path().join("mailboxes/tips.json")).expect("read");
    assert!(kept.contains("ncryptsec1") && !kept.contains("\"nsec1"));
    assert!(std::fs::read_to_string(home.path().join("store.key")).expect("read").starts_with("ncryptsec1"));
    // What is public needs no password.
    home.run(["id"]).success();
    settings(&home).bind(|| {
        insta::assert_snapshot!("locked", home.run(["read"]).ends(6).shown());
        insta::assert_snapshot!("wrong-password", home.run(["read", "--password-file", &wrong]).ends(6).shown());
        insta::assert_snapshot!("mixed-keys", home.run(["new", "b", "--plain-key"]).ends(2).shown());
        insta::assert_snapshot!(
            "second-wrong-password",
            home.run(["new", "b", "--password-file", &wrong]).ends(6).shown()
        );
    });
    home.run(["read", "--password-file", &right]).success();
    home.run(["new", "b", "--password-file", &right]).success();
    let mut by_environment = home.command(["read"]);
    by_environment.env("TALKBOX_PASSWORD_FILE", &right);
    common::run(by_environment, None).success();
}

#[cfg(unix)]
#[test]
fn key_files_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    home.run(["new", "tips", "--plain-key"]).success();
    for file in ["mailboxes/tips.json", "store.key"] {
        let mode = std::fs::metadata(home.path().join(file)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let path = home.path().join("mailboxes/tips.json");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).expect("changed");
    settings(&home).bind(|| insta::assert_snapshot!("key-open-to-others", home.run(["id"]).ends(6).shown()));
}
