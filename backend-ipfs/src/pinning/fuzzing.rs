//! The answers of pinning services, and what is found under a root, fed with any bytes.

use bytes::Bytes;

use super::{
    Root,
    api::{ListPage, PinStatus, read_json},
    delegates::{MAX_ADDRESSES, to_dial},
    root::walk,
    token::Token,
};
use crate::orbitdb::{cid_of, cid_of_digest};

/// Most pins that are read of a page here.
const PAGE: usize = 10;
/// Of which log the roots are.
const LOG: &str = "/orbitdb/zdpuAsGNbJW1aUKphMcfFaBCCeZZhqpKkWNruTtv8Novi3du9";
const TOKEN: &str = "s3cr3t";

/// One status, or a page of them.
pub fn pin_answer(bytes: &[u8]) -> bool {
    let token = Token::parse(TOKEN).expect("a token");
    let Some(value) = read_json(bytes, &token) else { return false };
    let mut pins: Vec<PinStatus> = PinStatus::read(&value).into_iter().collect();
    if let Some(page) = ListPage::read(&value, PAGE) {
        assert!(page.pins.len() <= PAGE && page.len() <= bytes.len());
        pins.extend(page.pins);
    }
    for pin in &pins {
        let texts = [Some(&pin.created), pin.name.as_ref(), pin.log.as_ref(), pin.details.as_ref()];
        for text in texts.into_iter().flatten().map(String::as_str).chain([pin.id.as_str()]) {
            assert!(text.len() <= 4 * 256 && !text.contains(char::is_control));
        }
        assert!(pin.delegates.len() <= MAX_ADDRESSES);
        assert!(to_dial(pin.delegates.iter().map(String::as_str), false).len() <= pin.delegates.len());
    }
    !pins.is_empty()
}

/// A node of a root.
pub fn pin_root(bytes: &[u8]) -> bool {
    let root = cid_of(bytes);
    let found = walk(&root, LOG, bytes.len(), |cid| (*cid == root).then(|| Bytes::copy_from_slice(bytes)));
    let Ok(found) = found else { return false };
    let again = Root::build(LOG, found).expect("as many as were in one node");
    assert_eq!(again.cid, root, "the same blocks have the same root");
    true
}

pub(crate) fn answers() -> Vec<Vec<u8>> {
    let pin = r#"{"requestid":"7f4b","status":"pinning","created":"2026-11-30T10:00:00.123Z","pin":{"cid":
        "bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy","name":"n","origins":[],"meta":{"talkbox":
        "/orbitdb/z","other":7}},"delegates":["/ip4/1.1.1.1/tcp/1",7,"x"],"info":{"status_details":"7 of 9 s3cr3t"}}"#;
    vec![pin.into(), format!(r#"{{"count":3,"results":[7,{pin},{pin},{{}}]}}"#).into()]
}

pub(crate) fn roots() -> Vec<Vec<u8>> {
    let root = |count: u8| {
        let mut built = Root::build(LOG, (0..count).map(|byte| cid_of_digest(&[byte; 32]))).expect("builds");
        built.nodes.pop().expect("a root").bytes.to_vec()
    };
    [0, 1, 9].map(root).into()
}
