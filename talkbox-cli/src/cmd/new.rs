//! `talkbox new`: makes a mailbox, or takes one over from the secret that it is.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use serde_json::json;
use talkbox_core::{MailboxId, RecoveryWords, SecretKey, Shortcode, address::to_npub, passphrase};
use zeroize::Zeroizing;

use crate::{
    announce,
    exit::{Code, Failure, Outcome},
    files,
    keyring::{self, Entry, New, Origin},
    output::{BOLD, CODE, DIM},
    prompt,
    session::Session,
};

/// The name of a mailbox where none is given.
const FIRST: &str = "main";

#[derive(Debug, clap::Args)]
#[command(
    after_help = "By default a mailbox is made of 12 new recovery words, which are shown once: they ARE the mailbox. \
                        What is kept on this computer is its key, encrypted with a password.\n\n\
                        With a passphrase the same words and the same NAME give the same mailbox on any computer. \
                        Secrets are never arguments: they are asked for, or read from a file."
)]
pub(crate) struct Arguments {
    /// What to call it on this computer; part of the secret with a passphrase [default: main, and empty with one]
    name: Option<String>,
    /// Take over a mailbox: ask for its recovery words
    #[arg(long, group = "from")]
    import: bool,
    /// Take over a mailbox: read its recovery words from a file, or from standard input with `-`
    #[arg(long, group = "from", value_name = "FILE")]
    words_file: Option<PathBuf>,
    /// Which mailbox of the recovery words
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    account: u32,
    /// Make it from a passphrase; a strong one is offered first
    #[arg(long, group = "from")]
    passphrase: bool,
    /// Make it from the passphrase in a file, or on standard input with `-`
    #[arg(long, group = "from", value_name = "FILE", env = "TALKBOX_PASSPHRASE_FILE", hide_env_values = true)]
    passphrase_file: Option<PathBuf>,
    /// Make it from the passphrase on an open file descriptor
    #[arg(long, group = "from", value_name = "NUMBER")]
    passphrase_fd: Option<u32>,
    /// Accept a passphrase that is easy to guess
    #[arg(long)]
    i_know_this_is_weak: bool,
    /// Take over the mailbox of the nsec in a file, or on standard input with `-`
    #[arg(long, group = "from", value_name = "FILE")]
    nsec_file: Option<PathBuf>,
    /// The code that it must have: a typo in a phrase opens another, empty mailbox
    #[arg(long, value_name = "CODE")]
    expect: Option<String>,
    /// Also write new recovery words to a new private file
    #[arg(long, value_name = "FILE")]
    save_words: Option<PathBuf>,
    /// Keep the key in a plain file, for programs that run unattended
    #[arg(long)]
    plain_key: bool,
    /// Do not tell the network where the mailbox is
    #[arg(long)]
    no_announce: bool,
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let name = arguments.name.as_deref().unwrap_or(FIRST);
    keyring::check_name(name)?;
    let expected = arguments.expect.as_deref().map(expected_code).transpose()?;
    let known = session.keyring.list()?.into_iter().find(|entry| entry.name == name);
    if known.is_some() && !arguments.takes_over() {
        return Err(Failure::input(format!("there is a mailbox `{name}` on this computer already"))
            .hint("give the new one another name: `talkbox new NAME`"));
    }
    // Before any words are shown, so that they are not written down for nothing.
    let password = match &known {
        Some(_) => None,
        None => session.keyring.password_for_new(arguments.plain_key)?,
    };
    let made = arguments.make(session, known.is_some() || expected.is_some()).await?;
    let code = Shortcode::of(&made.key.id());
    if let Some(known) = known {
        return compare(session, &known, made.key.id(), code);
    }
    if let Some(expected) = expected.filter(|expected| *expected != code) {
        return Err(wrong_secret(code, expected));
    }
    made.show_words(session, arguments).await?;
    let new = New { name, key: &made.key, code, origin: made.origin, weak: made.weak, now: session.clock.now() };
    let entry = session.keyring.add(new, password.as_ref().map(|password| password.as_str()))?;
    let encrypted = password.is_some();
    if !session.output.is_json() {
        tell(session, &entry, &made, expected.is_some(), encrypted)?;
    }
    let announced = if arguments.no_announce || session.is_offline() {
        announce::Announcement::default()
    } else {
        announce::first(session, &entry).await?
    };
    if session.output.is_json() {
        session.output.object(&json!({
            "mailbox": entry.name,
            "code": entry.code,
            "npub": to_npub(&entry.id),
            "made_from": entry.origin,
            "encrypted": encrypted,
            "weak": entry.weak,
            "key_file": session.keyring.path_of(&entry.name),
            "announced": announced.to_json(),
        }))?;
    } else {
        announced.tell(session);
    }
    Ok(Code::Done)
}

/// A mailbox that is not kept yet.
struct Made {
    key: SecretKey,
    origin: Origin,
    /// Words that nobody has seen yet.
    new_words: Option<RecoveryWords>,
    weak: bool,
    /// Whether a person typed it, and may have mistyped it.
    typed: bool,
}

impl Arguments {
    /// Whether the secret comes from somewhere, and may be that of a mailbox that is known.
    const fn takes_over(&self) -> bool {
        self.import
            || self.words_file.is_some()
            || self.passphrase
            || self.passphrase_file.is_some()
            || self.passphrase_fd.is_some()
            || self.nsec_file.is_some()
    }

    async fn make(&self, session: &Session, known: bool) -> Outcome<Made> {
        let made = |key, origin| Made { key, origin, new_words: None, weak: false, typed: true };
        if let Some(text) = self.words()? {
            return Ok(made(SecretKey::from_words(&text, self.account)?, Origin::Words));
        }
        if let Some(path) = &self.nsec_file {
            return Ok(made(SecretKey::from_nsec(&read(path)?)?, Origin::Nsec));
        }
        if self.passphrase || self.passphrase_file.is_some() || self.passphrase_fd.is_some() {
            return self.derived(session, known).await;
        }
        let words = RecoveryWords::generate()?;
        let key = SecretKey::from_words(words.as_str(), self.account)?;
        Ok(Made { key, origin: Origin::Words, new_words: Some(words), weak: false, typed: false })
    }

    fn words(&self) -> Outcome<Option<Zeroizing<String>>> {
        if self.import {
            let instead =
                "read them from a file with `--words-file FILE`, or from standard input with `--words-file -`";
            return prompt::secret("Recovery words", instead).map(Some);
        }
        self.words_file.as_deref().map(read).transpose()
    }

    async fn derived(&self, session: &Session, known: bool) -> Outcome<Made> {
        // The name is part of the secret only where it was given: without it, a phrase alone has to be enough.
        let name = self.name.as_deref().unwrap_or_default();
        let given = match (&self.passphrase_file, self.passphrase_fd) {
            (Some(path), _) => Some(read(path)?),
            (None, Some(fd)) => Some(files::read_secret(Path::new(&format!("/dev/fd/{fd}")))?),
            (None, None) => None,
        };
        let instead = "read it from a file with `--passphrase-file FILE`";
        let (phrase, generated) = match given {
            Some(phrase) => (phrase, false),
            None if known => (prompt::secret("Passphrase", instead)?, false),
            None => match offer_phrase(session).await? {
                Some(phrase) => (phrase, true),
                None => (prompt::new_secret("Passphrase", instead)?, false),
            },
        };
        let strong = passphrase::check(&phrase, name, generated, false);
        if let (Err(error), false) = (&strong, self.i_know_this_is_weak) {
            return Err(Failure::input(error.message()).hint(
                "`talkbox new NAME --passphrase` offers a phrase that is strong; `--i-know-this-is-weak` accepts this one",
            ));
        }
        session.output.progress("stretching the passphrase (about a second) …");
        let key = passphrase::derive(&phrase, name);
        session.output.progress_done();
        Ok(Made { key: key?, origin: Origin::Passphrase, new_words: None, weak: strong.is_err(), typed: !generated })
    }
}

impl Made {
    /// Shows new words to whoever sits at the terminal, once, and goes on only when they are written down.
    async fn show_words(&self, session: &Session, arguments: &Arguments) -> Outcome<()> {
        let Some(words) = &self.new_words else { return Ok(()) };
        if let Some(path) = &arguments.save_words {
            files::create(path, &Zeroizing::new(format!("{}\n", words.as_str())))?;
        }
        if !io::stderr().is_terminal() {
            if arguments.save_words.is_none() {
                session.output.warn(
                    "the recovery words were not shown, since this is no terminal: the key file is the only copy of the \
                     mailbox (`--save-words FILE` keeps the words, too)",
                );
            }
            return Ok(());
        }
        session.output.show("Secret recovery words. They ARE the mailbox: whoever has them reads and writes as you.\n");
        let words: Vec<&str> = words.as_str().split(' ').collect();
        for (row, line) in words.chunks(4).enumerate() {
            let cell = |(at, word): (usize, &&str)| format!("{:>4} {BOLD}{word:<9}{BOLD:#}", row * 4 + at + 1);
            session.output.show(line.iter().enumerate().map(cell).collect::<String>());
        }
        session.output.show(format_args!("\n{DIM}They are not kept on this computer, and not shown again.{DIM:#}"));
        if prompt::can_confirm() && !prompt::confirm("Written down?", false).await? {
            return Err(Failure::input("no mailbox was made, since its words are not written down")
                .hint("run `talkbox new` again, with pen and paper"));
        }
        Ok(())
    }
}

/// Offers a generated phrase; `None` where there is nobody to offer it to, or it was not taken.
async fn offer_phrase(session: &Session) -> Outcome<Option<Zeroizing<String>>> {
    if !prompt::can_confirm() {
        return Ok(None);
    }
    let phrase = passphrase::generate_phrase()?;
    session.output.show("A passphrase that nobody guesses, made for you:\n");
    session.output.show(format_args!("  {BOLD}{}{BOLD:#}\n", phrase.as_str()));
    let taken = prompt::confirm("Take it (and write it down)? Otherwise you type your own", true).await?;
    Ok(taken.then_some(phrase))
}

fn read(path: &Path) -> Outcome<Zeroizing<String>> {
    if path.as_os_str() == "-" { files::read_secret_from_stdin() } else { files::read_secret(path) }
}

fn expected_code(text: &str) -> Outcome<Shortcode> {
    Shortcode::parse(text).map_err(|error| Failure::input(error).while_doing("--expect"))
}

/// The secret of a mailbox that is here already: says whether it is the same one.
fn compare(session: &Session, known: &Entry, id: MailboxId, code: Shortcode) -> Outcome {
    if known.id != id {
        return Err(wrong_secret(code, known.code));
    }
    if session.output.is_json() {
        session.output.object(&json!({"mailbox": known.name, "code": code, "npub": to_npub(&id), "known": true}))?;
    } else {
        session.output.line(format_args!("{CODE}{code}{CODE:#}"))?;
        session.output.note(format_args!("the same mailbox as `{}` on this computer: nothing was changed", known.name));
    }
    Ok(Code::Done)
}

fn wrong_secret(found: Shortcode, expected: Shortcode) -> Failure {
    Failure::new(Code::Locked, "wrong-secret", format!("this secret opens {found}, and not {expected}"))
        .hint("look for a typo, and for the right name: a passphrase belongs to the name that it was made with")
        .detail("found", found.to_string())
        .detail("expected", expected.to_string())
}

fn tell(session: &Session, entry: &Entry, made: &Made, expected: bool, encrypted: bool) -> Outcome<()> {
    let output = &session.output;
    output.note(format_args!("mailbox `{}` is ready; its public code, to be shared:", entry.name));
    output.line(format_args!("{CODE}{}{CODE:#}", entry.code))?;
    if entry.weak {
        output.warn("the passphrase is easy to guess: whoever guesses it owns the mailbox");
    }
    if made.typed && !expected && entry.origin == Origin::Passphrase {
        output.note(
            "no mailbox of this passphrase was known here: compare the code with the one you know, since a typo opens \
             another, empty mailbox",
        );
    }
    if !encrypted {
        let path = session.keyring.path_of(&entry.name);
        output.warn(format_args!("the key is kept unencrypted in {}", path.display()));
    }
    Ok(())
}
