//! What a message costs its address. It is told before the message is parsed, since to parse it is much of what it costs.

use crate::node::addresses::Spend;

/// More bytes than this are parsed in turn. A request for one mailbox has some 200, an event some 2,000.
pub(super) const LARGE: usize = 4_096;

/// Bytes of a request for one token more: a reconciliation message of the largest size has 16, and to read them out of
/// hexadecimal takes 100 µs.
const BYTES_A_TOKEN: usize = 8_192;
/// Values of a request for one token more. Each is a look into an index, some 10 µs; a hundred ids, as many as clients
/// fetch together, cost two tokens, and a thousand sixteen.
const VALUES_A_TOKEN: usize = 64;
/// To close something, which everyone does once for each request.
const CLOSING: f64 = 0.1;
/// Most bytes of a message that closes something: a name of 64 characters, each written as an escape of 6 or 12 bytes.
const CLOSING_BYTES: usize = 1_024;

/// By which rate a message is counted, and how many tokens it costs.
pub(super) fn price(text: &str) -> (Spend, f64) {
    match verb(text) {
        // An event has its own bound, and its signature costs more than its bytes.
        Some("EVENT") => (Spend::Event, 1.0),
        Some("CLOSE" | "NEG-CLOSE") if text.len() <= CLOSING_BYTES => (Spend::Request, CLOSING),
        _ => {
            let commas = text.bytes().filter(|byte| *byte == b',').count();
            let more = (text.len() / BYTES_A_TOKEN).max(commas / VALUES_A_TOKEN);
            // There are far fewer than 2^32, as of bytes in a message.
            (Spend::Request, 1.0 + f64::from(u32::try_from(more).unwrap_or(u32::MAX)))
        }
    }
}

/// The first string of the array, as it is written. One written with escapes is a request like any other.
fn verb(text: &str) -> Option<&str> {
    let inside = text.trim_start().strip_prefix('[')?.trim_start().strip_prefix('"')?;
    inside.split_once('"').map(|(verb, _)| verb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_costs_what_is_in_it_and_an_event_one() {
        let keys = |number: usize| format!(r#"["REQ","a",{{"authors":[{}]}}]"#, vec![r#""0a""#; number].join(","));
        assert_eq!(price(&keys(1)), (Spend::Request, 1.0));
        assert_eq!(price(&keys(100)), (Spend::Request, 2.0));
        assert_eq!(price(&keys(1_000)), (Spend::Request, 16.0));
        let message = format!(r#"["NEG-MSG","a","{}"]"#, "0".repeat(120_000));
        assert_eq!(price(&message), (Spend::Request, 15.0));
        assert_eq!(price(&format!(" [ \"EVENT\" ,{{\"content\":\"{}\"}}]", ",".repeat(60_000))), (Spend::Event, 1.0));
        assert_eq!(price(r#"["CLOSE","a"]"#), (Spend::Request, 0.1));
        assert_eq!(price(&format!(r#"["CLOSE","{}"]"#, "x".repeat(9_000))), (Spend::Request, 2.0));
        for nonsense in ["", "[", "x", "{}", r#"["EVE\u004eT",{}]"#] {
            assert_eq!(price(nonsense), (Spend::Request, 1.0), "{nonsense}");
        }
    }
}
