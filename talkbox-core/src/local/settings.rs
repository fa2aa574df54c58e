//! The owner's own small settings, in clear or sealed.

use rusqlite::{OptionalExtension as _, params};
use zeroize::Zeroizing;

use super::Store;
use crate::{Error, ErrorKind, Result};

/// Most bytes of a setting: they are small things.
const MAX_BYTES: usize = 64 * 1024;
/// The row that tells the right store key from a wrong one.
const RESERVED: &str = "check";

impl Store {
    /// A setting.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn setting(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let name = name.to_owned();
        self.read("setting", move |access| {
            let mut select = access.db.prepare_cached("SELECT value FROM settings WHERE name = ?1")?;
            Ok(select.query_row([name], |row| row.get(0)).optional()?)
        })
        .await
    }

    /// Sets a setting, or removes it.
    ///
    /// # Errors
    /// `TooLarge` over 64 KiB; `Storage`.
    pub async fn set_setting(&self, name: &str, value: Option<&[u8]>) -> Result<()> {
        let (name, value) = (name.to_owned(), bounded(value)?.map(<[u8]>::to_vec));
        self.write("setting", move |access| {
            match value {
                Some(value) => access.db.execute(
                    "INSERT INTO settings (name, value) VALUES (?1, ?2)
                     ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                    params![name, value],
                )?,
                None => access.db.execute("DELETE FROM settings WHERE name = ?1", [name])?,
            };
            Ok(())
        })
        .await
    }

    /// A sealed setting.
    ///
    /// # Errors
    /// `Storage`, also where its row is damaged.
    pub async fn secret(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let name = name.to_owned();
        self.read("secret setting", move |access| {
            let mut select = access.db.prepare_cached("SELECT sealed FROM secrets WHERE name = ?1")?;
            let sealed: Option<Vec<u8>> = select.query_row([&name], |row| row.get(0)).optional()?;
            Ok(sealed.map(|sealed| access.rest.open("secrets", name.as_bytes(), &sealed)).transpose()?)
        })
        .await
    }

    /// Sets a sealed setting, or removes it.
    ///
    /// # Errors
    /// `InvalidInput` for the name `check`, which is the store's own; `TooLarge` over 64 KiB; `Storage`.
    pub async fn set_secret(&self, name: &str, value: Option<&[u8]>) -> Result<()> {
        if name == RESERVED {
            return Err(Error::new(ErrorKind::InvalidInput, "this setting is the store's own").with("name", name));
        }
        let (name, value) = (name.to_owned(), bounded(value)?.map(|value| Zeroizing::new(value.to_vec())));
        self.write("secret setting", move |access| {
            match value {
                Some(value) => access.db.execute(
                    "INSERT INTO secrets (name, sealed) VALUES (?1, ?2)
                     ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed",
                    params![name, access.rest.seal("secrets", name.as_bytes(), &value)?],
                )?,
                None => access.db.execute("DELETE FROM secrets WHERE name = ?1", [name])?,
            };
            Ok(())
        })
        .await
    }
}

fn bounded(value: Option<&[u8]>) -> Result<Option<&[u8]>> {
    match value {
        Some(value) if value.len() > MAX_BYTES => {
            Err(Error::new(ErrorKind::TooLarge, "a setting has at most 64 KiB").with("bytes", value.len()))
        }
        value => Ok(value),
    }
}
