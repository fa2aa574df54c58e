//! The secrets of this computer: one file for each mailbox, and one for the key that seals the rows of the store.
//!
//! All of them are either encrypted with one password (NIP-49, `ncryptsec`) or, where nobody is there to type it, plain
//! (`nsec`); the first mailbox decides. The files have mode 0600. What is kept is the key and neither words nor
//! passphrase, so that no command pays for Argon2 again.
//!
//! The key of the store is made before it is needed first, which may be to send without a mailbox of one's own: until
//! there is a mailbox it is plain.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
};

use serde::{Deserialize, Serialize};
use talkbox_core::{
    MailboxId, SecretKey, Shortcode, Timestamp,
    address::{from_npub, to_npub},
};
use zeroize::Zeroizing;

use crate::{
    exit::{Failure, Outcome},
    files,
    password::Password,
    paths::Paths,
    secret::Secret,
};

/// Most mailboxes that are read: a person has a handful, and a program that makes more wants several homes.
const MAX_MAILBOXES: usize = 1000;
/// Most characters of a mailbox's name, which is also the name of a file.
const MAX_NAME: usize = 64;

/// What a mailbox was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Origin {
    Words,
    Passphrase,
    Nsec,
}

/// A mailbox of this computer. Everything but the key is public, so that it is known without a password.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The first mailbox is number 1, and the one that a command means where none is named.
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) id: MailboxId,
    pub(crate) code: Shortcode,
    pub(crate) origin: Origin,
    pub(crate) created_at: Timestamp,
    /// Whether its passphrase is known to be easy to guess.
    pub(crate) weak: bool,
    secret: Secret,
}

/// How the secrets are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// There is no mailbox yet to decide.
    Open,
    /// In plain files.
    Plain,
    /// Encrypted with the password.
    Password,
}

/// The form of a mailbox's file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    v: u8,
    number: u32,
    name: String,
    npub: String,
    code: Shortcode,
    made_from: Origin,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    weak: bool,
    secret: Secret,
}

/// The keys that a command asked for.
#[derive(Debug)]
pub(crate) struct Unlocked {
    /// Seals the rows of the store.
    pub(crate) store: SecretKey,
    /// Opens the mailbox, where one was asked for.
    pub(crate) mailbox: Option<SecretKey>,
}

/// The secrets of this computer.
#[derive(Clone, Debug)]
pub(crate) struct Keyring {
    paths: Paths,
    password: Password,
}

impl Keyring {
    pub(crate) const fn new(paths: Paths, password: Password) -> Self {
        Self { paths, password }
    }

    /// Every mailbox, the first one first.
    ///
    /// # Errors
    /// Where a file cannot be read or is none of ours: a mailbox that seems to be gone is worse than a complaint.
    pub(crate) fn list(&self) -> Outcome<Vec<Entry>> {
        let folder = self.paths.mailboxes();
        let files = match fs::read_dir(&folder) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Failure::internal(format!("cannot read {}: {error}", folder.display()))),
        };
        let mut entries = Vec::new();
        for file in files.take(MAX_MAILBOXES) {
            let path = file?.path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if path.extension().is_none_or(|extension| extension != "json") || hidden {
                continue;
            }
            entries.push(read_entry(&path)?);
        }
        entries.sort_by(|one, other| (one.number, &one.name).cmp(&(other.number, &other.name)));
        Ok(entries)
    }

    /// The mailbox of this name, or the first one.
    ///
    /// # Errors
    /// `NotFound`, with what to do about it.
    pub(crate) fn find(&self, name: Option<&str>) -> Outcome<Entry> {
        let entries = self.list()?;
        let names = || entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>();
        let Some(name) = name else {
            return entries.into_iter().next().ok_or_else(|| {
                Failure::not_found("there is no mailbox on this computer yet").hint("`talkbox new` makes one")
            });
        };
        let found = entries.iter().find(|entry| entry.name == name).cloned();
        found.ok_or_else(|| {
            let nearest = talkbox_core::nearest(name, names());
            let meant = nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
            let hint = if entries.is_empty() {
                format!("`talkbox new {name}` makes it")
            } else {
                format!("there are: {}; `talkbox new {name}` makes it", names().join(", "))
            };
            Failure::not_found(format!("there is no mailbox `{name}` on this computer{meant}")).hint(hint)
        })
    }

    /// How the secrets are kept.
    pub(crate) fn lock(&self) -> Outcome<Lock> {
        Ok(match self.list()?.first() {
            None => Lock::Open,
            Some(entry) if entry.secret.is_plain() => Lock::Plain,
            Some(_) => Lock::Password,
        })
    }

    /// The key of the store, and that of a mailbox. What is encrypted is decrypted side by side: it costs a quarter of
    /// a second each.
    ///
    /// # Errors
    /// `Locked` for a wrong password, or none.
    pub(crate) fn unlock(&self, mailbox: Option<&Entry>) -> Outcome<Unlocked> {
        let store = self.store_secret()?;
        let secrets: Vec<&Secret> = [Some(&store), mailbox.map(|entry| &entry.secret)].into_iter().flatten().collect();
        let password = match secrets.iter().all(|secret| secret.is_plain()) {
            true => None,
            false => Some(self.password.get()?),
        };
        let password = password.as_ref().map(|password| password.as_str());
        let mut keys = thread::scope(|scope| {
            let threads: Vec<_> = secrets.iter().map(|secret| scope.spawn(|| secret.open(password))).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|_| Err(Failure::internal("decrypting a key failed")))
            };
            threads.into_iter().map(join).collect::<Outcome<Vec<SecretKey>>>()
        })?
        .into_iter();
        let store = keys.next().ok_or_else(|| Failure::internal("there is no key of the store"))?;
        let unlocked = Unlocked { store, mailbox: keys.next() };
        if let (Some(entry), Some(key)) = (mailbox, &unlocked.mailbox)
            && key.id() != entry.id
        {
            let message = format!("the file of the mailbox `{}` holds the key of another one", entry.name);
            return Err(Failure::new(crate::exit::Code::VerificationFailed, "verification-failed", message));
        }
        Ok(unlocked)
    }

    /// The password of the mailboxes that there are, checked; or a new one where there is no mailbox yet.
    ///
    /// `plain` asks for none. `None` is answered where the keys are plain.
    ///
    /// # Errors
    /// Where `plain` and how the others are kept do not agree; `Locked` for a wrong password.
    pub(crate) fn password_for_new(&self, plain: bool) -> Outcome<Option<Zeroizing<String>>> {
        match (self.lock()?, plain) {
            (Lock::Open, true) | (Lock::Plain, true) => Ok(None),
            (Lock::Open, false) => self.password.choose().map(Some),
            (Lock::Plain, false) => Err(Failure::input(
                "the keys on this computer are kept in plain files, and one password is for all of them or none",
            )
            .hint("say `--plain-key` to keep this one plain, too, or use another folder: set TALKBOX_HOME")),
            (Lock::Password, true) => Err(Failure::input(
                "the keys on this computer are encrypted, and a plain one beside them would not open the store",
            )
            .hint("leave `--plain-key` out, or use another folder: set TALKBOX_HOME")),
            (Lock::Password, false) => {
                let password = self.password.get()?;
                self.store_secret()?.open(Some(&password))?;
                Ok(Some(password))
            }
        }
    }

    /// Keeps a new mailbox, encrypted where a password is given.
    ///
    /// # Errors
    /// `InvalidInput` where the name is taken.
    pub(crate) fn add(&self, new: New<'_>, password: Option<&str>) -> Outcome<Entry> {
        check_name(new.name)?;
        let entries = self.list()?;
        if let Some(known) = entries.iter().find(|entry| entry.id == new.key.id()) {
            return Err(Failure::input(format!("this mailbox is here already: `{}`", known.name)));
        }
        files::private_folder(&self.paths.mailboxes())?;
        let store = self.store_secret()?;
        if password.is_some() && store.is_plain() {
            let sealed = Secret::seal(&store.open(None)?, password)?;
            files::replace(&self.paths.store_key(), sealed.text())?;
        }
        let file = File {
            v: 1,
            number: entries.iter().map(|entry| entry.number).max().unwrap_or(0).saturating_add(1),
            name: new.name.to_owned(),
            npub: to_npub(&new.key.id()),
            code: new.code,
            made_from: new.origin,
            created_at: new.now,
            weak: new.weak,
            secret: Secret::seal(new.key, password)?,
        };
        let text = Zeroizing::new(serde_json::to_string_pretty(&file).map_err(Failure::internal)?);
        files::create(&self.path_of(new.name), &text)?;
        file.entry()
    }

    /// Where the key of a mailbox is.
    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.paths.mailboxes().join(format!("{name}.json"))
    }

    /// The key of the store as it is kept; made on first use.
    fn store_secret(&self) -> Outcome<Secret> {
        let path = self.paths.store_key();
        if !path.exists() {
            let store = self.paths.store();
            if store.exists() {
                let (key, store) = (path.display(), store.display());
                return Err(Failure::locked(format!("the key of the store is gone: there is no {key}")).hint(format!(
                    "bring it back from a copy; without it {store} cannot be opened by anybody: move it away to begin \
                     anew, and mail that holders still keep is fetched again"
                )));
            }
            files::private_folder(self.paths.data())?;
            let new = Secret::seal(&SecretKey::generate()?, None)?;
            // Where another process was faster, its key is the one.
            if let Err(failure) = files::create(&path, new.text())
                && !path.exists()
            {
                return Err(failure);
            }
        }
        check_private(&path)?;
        Ok(Secret::of_text(files::read_secret(&path)?))
    }
}

/// A mailbox to be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct New<'a> {
    pub(crate) name: &'a str,
    pub(crate) key: &'a SecretKey,
    pub(crate) code: Shortcode,
    pub(crate) origin: Origin,
    pub(crate) weak: bool,
    pub(crate) now: Timestamp,
}

/// Whether a name can be that of a mailbox.
///
/// # Errors
/// `InvalidInput`, with the rule.
pub(crate) fn check_name(name: &str) -> Outcome<()> {
    let allowed = |symbol: char| symbol.is_ascii_alphanumeric() || "._@+-".contains(symbol);
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    if starts_well && name.len() <= MAX_NAME && name.chars().all(allowed) {
        return Ok(());
    }
    Err(Failure::input(
        "the name of a mailbox has at most 64 letters, digits and `._@+-`, and begins with a letter or digit",
    ))
}

impl File {
    fn entry(self) -> Outcome<Entry> {
        Ok(Entry {
            number: self.number,
            id: from_npub(&self.npub)?,
            name: self.name,
            code: self.code,
            origin: self.made_from,
            created_at: self.created_at,
            weak: self.weak,
            secret: self.secret,
        })
    }
}

fn read_entry(path: &Path) -> Outcome<Entry> {
    check_private(path)?;
    let text = files::read_secret(path)?;
    // Not the parser's own words: they may repeat what is in the file.
    let damaged = || Failure::input(format!("{} is no file of a mailbox", path.display()));
    let file: File = serde_json::from_str(&text).map_err(|_| damaged())?;
    if file.v != 1 || path.file_stem().is_none_or(|stem| stem != file.name.as_str()) {
        return Err(damaged());
    }
    file.entry()
}

/// Refuses a file of secrets that others can read, as ssh does.
fn check_private(path: &Path) -> Outcome<()> {
    if files::is_open_to_others(path) {
        return Err(Failure::locked(format!("others can read {}", path.display()))
            .hint(format!("`chmod 600 {}` closes it to them", path.display())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Code;

    struct Home {
        folder: tempfile::TempDir,
    }

    impl Home {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().expect("a folder") }
        }

        fn keyring(&self, password: Option<&str>) -> Keyring {
            let file = password.map(|password| {
                let path = self.folder.path().join("password");
                fs::write(&path, format!("{password}\n")).expect("written");
                path
            });
            Keyring::new(Paths::in_one(&self.folder.path().join("home")), Password::new(file))
        }
    }

    fn add(keyring: &Keyring, name: &str, password: Option<&str>) -> Outcome<Entry> {
        let key = SecretKey::generate().expect("randomness");
        // Any valid code will do: what it is the code of is not the keyring's business.
        let code = "F12TW-YXSDN-W8QCK-54PDT".parse().expect("a code");
        let now = Timestamp(1_790_000_000);
        keyring.add(New { name, key: &key, code, origin: Origin::Words, weak: false, now }, password)
    }

    #[test]
    fn the_first_mailbox_is_the_default_and_each_has_its_own_key() {
        let home = Home::new();
        let keyring = home.keyring(None);
        assert_eq!(keyring.find(None).expect_err("none").code(), Code::NotFound);
        assert_eq!(keyring.lock().expect("read"), Lock::Open);
        let first = add(&keyring, "zebra", None).expect("added");
        let second = add(&keyring, "ant", None).expect("added");
        assert_eq!(keyring.find(None).expect("found").name, "zebra");
        assert_eq!(keyring.find(Some("ant")).expect("found").id, second.id);
        assert_eq!(keyring.lock().expect("read"), Lock::Plain);
        let one = keyring.unlock(Some(&first)).expect("plain");
        let other = keyring.unlock(Some(&second)).expect("plain");
        assert_eq!(one.mailbox.expect("asked for").id(), first.id);
        assert_eq!(one.store.id(), other.store.id());
        assert!(keyring.unlock(None).expect("plain").mailbox.is_none());
    }

    #[test]
    fn a_password_encrypts_the_keys_and_the_store_key_that_was_plain() {
        let home = Home::new();
        let keyring = home.keyring(Some("hunter2 hunter2"));
        let before = keyring.unlock(None).expect("plain until there is a mailbox").store;
        let password = keyring.password_for_new(false).expect("chosen").expect("one");
        let entry = add(&keyring, "tips", Some(&password)).expect("added");
        assert_eq!(keyring.lock().expect("read"), Lock::Password);
        for path in [keyring.paths.store_key(), keyring.path_of("tips")] {
            let text = fs::read_to_string(path).expect("read");
            assert!(text.contains("ncryptsec1") && !text.contains("nsec1x"));
        }
        let unlocked = keyring.unlock(Some(&entry)).expect("the right password");
        assert_eq!((unlocked.store.id(), unlocked.mailbox.expect("asked for").id()), (before.id(), entry.id));
        let wrong = home.keyring(Some("another"));
        assert_eq!(wrong.unlock(Some(&entry)).expect_err("wrong").code(), Code::Locked);
        assert_eq!(wrong.password_for_new(false).expect_err("wrong").code(), Code::Locked);
        assert_eq!(home.keyring(None).unlock(None).expect_err("nobody to ask").code(), Code::Locked);
        assert_eq!(wrong.password_for_new(true).expect_err("mixed").code(), Code::BadInput);
    }

    #[test]
    fn the_password_is_asked_for_once() {
        let home = Home::new();
        let keyring = home.keyring(Some("hunter2 hunter2"));
        let password = keyring.password_for_new(false).expect("chosen").expect("one");
        let entry = add(&keyring, "tips", Some(&password)).expect("added");
        // Whoever typed it just now is not asked again: there is nothing to ask any more.
        fs::remove_file(home.folder.path().join("password")).expect("removed");
        keyring.unlock(Some(&entry)).expect("known");
        let keyring = home.keyring(Some("hunter2 hunter2"));
        keyring.unlock(Some(&entry)).expect("read");
        fs::remove_file(home.folder.path().join("password")).expect("removed");
        keyring.unlock(Some(&entry)).expect("known");
    }

    #[test]
    fn names_are_taken_once_and_stay_inside_the_folder() {
        let home = Home::new();
        let keyring = home.keyring(None);
        add(&keyring, "tips", None).expect("added");
        assert_eq!(add(&keyring, "tips", None).expect_err("taken").code(), Code::BadInput);
        for bad in ["", ".hidden", "../up", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert_eq!(add(&keyring, bad, None).expect_err(bad).code(), Code::BadInput);
        }
        add(&keyring, "me@work.example", None).expect("added");
        assert!(keyring.find(Some("tipps")).expect_err("none").message().contains("did you mean `tips`"));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let home = Home::new();
        let keyring = home.keyring(None);
        add(&keyring, "tips", None).expect("added");
        fs::set_permissions(keyring.path_of("tips"), fs::Permissions::from_mode(0o644)).expect("changed");
        assert_eq!(keyring.find(None).expect_err("open").code(), Code::Locked);
    }

    #[test]
    fn a_damaged_file_is_told_and_never_repeated() {
        let home = Home::new();
        let keyring = home.keyring(None);
        add(&keyring, "tips", None).expect("added");
        files::replace(&keyring.path_of("tips"), "{\"secret\": \"nsec1abc\"").expect("replaced");
        let failure = keyring.list().expect_err("damaged");
        assert!(failure.message().contains("tips.json") && !failure.message().contains("nsec1"));
    }
}
