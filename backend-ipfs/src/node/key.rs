//! The key of a peer. It is one secp256k1 key in two roles: as the identity of libp2p it is in the peer id, and it signs
//! custody receipts. So a receipt is checked against the locator that names the peer, and nothing else has to be
//! trusted.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::Path,
};

use libp2p::{
    PeerId,
    identity::{Keypair, PublicKey as PeerKey, secp256k1},
};
use talkbox_core::{Error, ErrorKind, PublicKey, Result, SecretKey};
use zeroize::Zeroizing;

/// The file of the key, beside the store and not in it: a copy of the store holds no secret.
const FILE: &str = "peer.key";
/// More bytes than the file has. An `nsec` is 63 characters.
const MOST: u64 = 128;
/// The code of the multihash that holds its message as it is: a peer id of a short key is that key.
const IDENTITY_HASH: u64 = 0;

/// The key that is kept in this folder, made where there is none. Without a folder it lasts as long as the peer.
///
/// # Errors
/// `Storage` where the file cannot be read or made, or is open to others; `Unexpected` without randomness.
pub(super) fn kept(folder: Option<&Path>) -> Result<SecretKey> {
    let Some(folder) = folder else { return SecretKey::generate() };
    let path = folder.join(FILE);
    let failed = |error: io::Error| {
        let what = format!("the key of the peer cannot be used: {error}");
        Error::new(ErrorKind::Storage, what).source(error).with("path", path.display())
    };
    match File::open(&path) {
        Ok(file) => {
            let text = read(&file).map_err(failed)?;
            SecretKey::from_nsec(text.trim()).map_err(|_| {
                Error::new(ErrorKind::Storage, "the file of the peer's key holds no key").with("path", path.display())
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = SecretKey::generate()?;
            write(folder, &path, &key.to_nsec()).map_err(failed)?;
            Ok(key)
        }
        Err(error) => Err(failed(error)),
    }
}

fn read(file: &File) -> io::Result<Zeroizing<String>> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            return Err(io::Error::other("its file is open to others: make it yours alone (chmod 600)"));
        }
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MOST).read_to_string(&mut text)?;
    Ok(text)
}

/// Writes it whole or not at all: half a key would be another peer after a power failure.
fn write(folder: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
        builder.mode(0o700);
        options.mode(0o600);
    }
    builder.create(folder)?;
    let draft = path.with_extension("new");
    let mut file = options.open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(folder)?.sync_all()
}

/// The identity of libp2p that a key is.
///
/// # Errors
/// `Unexpected` where libp2p does not take it, which no valid key meets.
pub(super) fn identity(key: &SecretKey) -> Result<Keypair> {
    let refused = |error: libp2p::identity::DecodingError| {
        Error::new(ErrorKind::Unexpected, "libp2p does not take the key").source(error)
    };
    let secret = secp256k1::SecretKey::try_from_bytes(&mut *key.to_bytes()).map_err(refused)?;
    Ok(secp256k1::Keypair::from(secret).into())
}

/// The key that signs the receipts of a peer, where its id is that of a secp256k1 key; other peers sign none.
pub(crate) fn signer(peer: &PeerId) -> Option<PublicKey> {
    let hash = libp2p::multihash::Multihash::<64>::from_bytes(&peer.to_bytes()).ok()?;
    if hash.code() != IDENTITY_HASH {
        return None;
    }
    let key = PeerKey::try_decode_protobuf(hash.digest()).ok()?.try_into_secp256k1().ok()?;
    // The first of 33 bytes says which half of the curve the point is on, which signatures after BIP-340 leave out.
    key.to_bytes()[1..].try_into().ok().map(PublicKey::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_kept_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = |path| kept(path).map(|key| key.public());
        let first = key(Some(folder.path())).expect("is made");
        assert_eq!(key(Some(folder.path())).expect("is read"), first);
        assert_ne!(key(None).expect("is made"), first);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let file = folder.path().join(FILE);
            fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("is mine");
            let error = key(Some(folder.path())).expect_err("is open to others");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        fs::remove_file(folder.path().join(FILE)).expect("is there");
        fs::write(folder.path().join(FILE), "").expect("writes");
    }

    #[test]
    fn a_peer_id_names_who_signs_its_receipts() {
        for _ in 0..8 {
            let key = SecretKey::generate().expect("randomness");
            let peer = identity(&key).expect("an identity").public().to_peer_id();
            assert!(peer.to_string().starts_with("16Uiu2HA"), "{peer}");
            assert_eq!(signer(&peer), Some(key.public()));
        }
        assert_eq!(signer(&Keypair::generate_ed25519().public().to_peer_id()), None);
    }
}
