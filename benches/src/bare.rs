//! The work that anybody must do to take a message out of a new envelope, and nothing else.

use std::hint::black_box;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hkdf::{
    Hkdf,
    hmac::{Hmac, KeyInit as _, Mac as _},
};
use nostr::{
    event::Event,
    key::{PublicKey, SecretKey as NostrSecretKey},
    nips::nip44::v2::{self, ConversationKey},
};
use secp256k1::{PublicKey as Point, SECP256K1, SecretKey as Scalar, XOnlyPublicKey, ecdh, schnorr::Signature};
use sha2::{Digest as _, Sha256};
use talkbox_core::{SecretKey, seal::Sealed};

/// The curve and hash work of one envelope from a sender that is not known yet.
///
/// Counted is, for the wrap and for the seal: the check of a BIP-340 signature with reading its key, one curve
/// multiplication for the shared key with reading the point, HKDF-SHA256 from it to the keys of NIP-44, HMAC-SHA256
/// over the ciphertext; and the SHA-256 of all three ids. All of it on bytes that lie ready.
///
/// Not counted, though somebody has to do it: reading JSON, hexadecimal and base64, ChaCha20, writing down the text that
/// an id is the hash of, and making the message.
pub struct Bare {
    secret: Scalar,
    layers: [Layer; 2],
    rumor: String,
}

/// A signed and encrypted event: the wrap, the seal.
struct Layer {
    author: [u8; 32],
    /// What the id is the hash of.
    preimage: String,
    id: [u8; 32],
    sig: [u8; 64],
    /// Nonce and ciphertext, as they are authenticated.
    payload: Vec<u8>,
    mac: [u8; 32],
}

impl Bare {
    /// Takes an envelope apart.
    pub fn new(sealed: &Sealed, owner: &SecretKey) -> Self {
        let layers = [sealed.envelope.json(), &sealed.seal].map(Layer::new);
        let rumor = layers[1].decrypt(owner);
        let mut rumor: serde_json::Value = serde_json::from_str(&rumor).expect("a rumor is JSON");
        let id = rumor["id"].take();
        let rumor = preimage(&rumor);
        assert_eq!(id, hex(&Sha256::digest(rumor.as_bytes()).into()), "this is what the id is the hash of");
        let secret = Scalar::from_slice(&*owner.to_bytes()).expect("a key");
        Self { secret, layers, rumor }
    }

    /// Does the work.
    pub fn run(&self) {
        for layer in &self.layers {
            layer.run(&self.secret);
        }
        black_box(Sha256::digest(self.rumor.as_bytes()));
    }
}

impl std::fmt::Debug for Bare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bare(…)")
    }
}

impl Layer {
    fn new(json: &str) -> Self {
        let event = Event::from_json(json).expect("an event");
        let value: serde_json::Value = serde_json::from_str(json).expect("JSON");
        let mut payload = STANDARD.decode(&event.content).expect("base64");
        let mac = payload.split_off(payload.len() - 32);
        // The version is not authenticated.
        payload.remove(0);
        Self {
            author: event.pubkey.to_bytes(),
            preimage: preimage(&value),
            id: event.id.to_bytes(),
            sig: event.sig.to_bytes(),
            payload,
            mac: mac.try_into().expect("32 bytes"),
        }
    }

    fn run(&self, secret: &Scalar) {
        let id: [u8; 32] = Sha256::digest(self.preimage.as_bytes()).into();
        assert_eq!(id, self.id);
        let key = XOnlyPublicKey::from_slice(&self.author).expect("a key");
        let sig = Signature::from_slice(&self.sig).expect("a signature");
        SECP256K1.verify_schnorr(&sig, &id, &key).expect("valid");
        let mut point = [2; 33];
        point[1..].copy_from_slice(&self.author);
        let point = Point::from_slice(&point).expect("a point");
        let shared = ecdh::shared_secret_point(&point, secret);
        let (_, hkdf) = Hkdf::<Sha256>::extract(Some(b"nip44-v2"), &shared[..32]);
        let mut keys = [0; 76];
        hkdf.expand(&self.payload[..32], &mut keys).expect("HKDF gives 76 bytes");
        let mut hmac = Hmac::<Sha256>::new_from_slice(&keys[44..]).expect("HMAC takes keys of any length");
        hmac.update(&self.payload);
        hmac.verify_slice(&self.mac).expect("authentic");
    }

    fn decrypt(&self, owner: &SecretKey) -> String {
        let secret = NostrSecretKey::from_slice(&*owner.to_bytes()).expect("a key");
        let key = ConversationKey::derive(&secret, &PublicKey::from_byte_array(self.author)).expect("a key");
        let payload = [&[2], &*self.payload, &self.mac].concat();
        String::from_utf8(v2::decrypt_to_bytes(&key, &payload).expect("decrypts")).expect("text")
    }
}

fn preimage(event: &serde_json::Value) -> String {
    let part = |name: &str| &event[name];
    serde_json::json!([0, part("pubkey"), part("created_at"), part("kind"), part("tags"), part("content")]).to_string()
}

fn hex(bytes: &[u8; 32]) -> String {
    talkbox_core::hex::encode(bytes)
}
