//! What peers say over `/talkbox/sync/1`, `/talkbox/have/1` and `/talkbox/publish/1`, fed with any bytes.

use futures_util::{
    FutureExt as _,
    io::{AsyncWriteExt as _, Cursor},
};
use talkbox_core::{EnvelopeId, MailboxId, PublicKey, SecretKey, Timestamp, custody::CustodyReceipt};

use super::{
    Code, Limits, MAX_HEADS, Refusal, Request, Standing,
    car::{CarReader, CarWriter, Section},
    channel::Channel,
    compare,
    frame::write_frame,
    greeting as greetings_of,
    have::{self, Have},
    limits::MAX_ENTRIES,
    publish,
};
use crate::orbitdb::{Block, Cid, MAX_TIME, cid_of_digest};

/// When the receipt of the seeds is shown.
const NOW: Timestamp = Timestamp(1_793_000_000);

/// What a session begins with.
pub fn request(bytes: &[u8]) -> bool {
    let Ok(Some(request)) = Request::decode(bytes) else { return false };
    let written = request.encode().expect("encodes");
    assert_eq!(Request::decode(&written).expect("reads"), Some(request));
    true
}

/// What is said to that.
pub fn greeting(bytes: &[u8]) -> bool {
    let Ok(answer) = greetings_of::decode(bytes) else { return false };
    match &answer {
        Ok(standing) => {
            assert!(standing.heads.len() <= MAX_HEADS);
            assert!(standing.heads.iter().all(|(_, time)| *time <= MAX_TIME));
        }
        Err(refusal) => is_plain(&refusal.why),
    }
    let written = greetings_of::encode(&answer).expect("encodes");
    assert_eq!(greetings_of::decode(&written).expect("reads"), answer);
    true
}

/// Which entries a peer wants.
pub fn wanted(bytes: &[u8]) -> bool {
    let read = with_time(|| {
        let mut channel = Channel::new(Cursor::new(bytes.to_vec()), Limits::default().frame);
        compare::read_wanted(&mut channel).now_or_never().expect("all of it is there")
    });
    let Ok(wanted) = read else { return false };
    assert!(wanted.len() <= MAX_ENTRIES && wanted.as_flattened().len() <= bytes.len());
    true
}

/// A CAR.
pub fn archive(bytes: &[u8]) -> bool {
    let reading = async {
        let mut car = CarReader::open(Cursor::new(bytes)).await.ok()??;
        let (roots, mut blocks, mut length) = (car.roots().to_vec(), Vec::new(), 0);
        loop {
            match car.next().await {
                Ok(Some((Section::Block(block), bytes))) => {
                    blocks.push(block);
                    length += bytes;
                }
                Ok(Some((Section::Junk, bytes))) => length += bytes,
                Ok(None) => return Some((roots, blocks, length, true)),
                Err(_) => return Some((roots, blocks, length, false)),
            }
        }
    };
    let read = reading.now_or_never().expect("all of it is there");
    let Some((roots, blocks, length, is_whole)) = read else { return false };
    assert!(length <= bytes.len());
    assert!(blocks.iter().all(|block| Block::checked(block.cid, block.bytes.clone()).is_some()));
    let again = write_archive(&roots, &blocks);
    let reading = async {
        let mut car = CarReader::open(Cursor::new(&again)).await.ok()??;
        let mut read = Vec::new();
        while let Ok(Some((Section::Block(block), _))) = car.next().await {
            read.push(block);
        }
        Some((car.roots().to_vec(), read))
    };
    let read = reading.now_or_never().expect("all of it is there");
    assert_eq!(read, Some((roots, blocks)), "it is written as it was read");
    is_whole
}

/// The receipt with which a peer answers, and the ids with which it is asked.
pub fn receipt(bytes: &[u8]) -> bool {
    if let Some(ids) = have::read_ids(bytes) {
        assert!(!ids.is_empty() && ids.len() * 32 <= bytes.len());
    }
    let have = Have::new(Cursor::new(Vec::new()), holder(), Limits::default());
    let asked = asked();
    let Ok(Some(receipt)) = have.read(bytes, &asked, NOW) else { return false };
    assert!(receipt.node() == holder() && receipt.is_current(NOW));
    assert!(receipt.ids().iter().all(|id| asked.contains(id)));
    true
}

/// What is said to a record that was given.
pub fn publication(bytes: &[u8]) -> bool {
    match publish::read_answer(bytes) {
        Some(Ok(())) => true,
        Some(Err(error)) => {
            is_plain(error.context("words").unwrap_or_default());
            true
        }
        None => false,
    }
}

/// Asserts that words can be printed.
fn is_plain(words: &str) {
    assert!(words.chars().count() <= greetings_of::MAX_WORDS && !words.contains(char::is_control));
}

pub(crate) fn requests() -> Vec<Vec<u8>> {
    let (mailbox, month) = (MailboxId::from_bytes([0xab; 32]), "2026-11".parse().expect("a month"));
    let request = |(want, give)| Request { mailbox, month, want, give }.encode().expect("encodes");
    [(true, false), (false, true)].map(request).into()
}

pub(crate) fn greetings() -> Vec<Vec<u8>> {
    let standing = |heads: u8| Standing {
        heads: (0..heads).map(|byte| (cid_of_digest(&[byte; 32]), MAX_TIME - u64::from(byte))).collect(),
        entries: 200_000,
    };
    let refused = [Code::Unknown, Code::Busy, Code::Refused].map(|code| Err(Refusal::new(code, "not today")));
    let answers = [Ok(standing(0)), Ok(standing(2)), Ok(standing(16))].into_iter().chain(refused);
    answers.map(|answer| greetings_of::encode(&answer).expect("encodes")).collect()
}

pub(crate) fn wants() -> Vec<Vec<u8>> {
    let row = |frames: &[&[u8]]| {
        let mut wire = Cursor::new(Vec::new());
        let write = async {
            for frame in frames {
                write_frame(&mut wire, frame).await.expect("writes");
            }
        };
        write.now_or_never().expect("room");
        wire.into_inner()
    };
    vec![row(&[&[]]), row(&[&[7; 32], &[]]), row(&[&[7; 320], &[8; 64], &[]])]
}

pub(crate) fn archives() -> Vec<Vec<u8>> {
    let blocks: Vec<Block> =
        crate::orbitdb::fuzzing::blocks().into_iter().map(|bytes| Block::of(bytes.into())).collect();
    let roots: Vec<Cid> = blocks.iter().map(|block| block.cid).take(2).collect();
    vec![write_archive(&roots[..1], &[]), write_archive(&roots[..1], &blocks[..2]), write_archive(&roots, &blocks[..9])]
}

pub(crate) fn receipts() -> Vec<Vec<u8>> {
    let receipt = |ids: &[EnvelopeId]| {
        let receipt = CustodyReceipt::sign(&holder_key(), ids, NOW, NOW.plus(60)).expect("signs");
        receipt.event().to_json().into_bytes()
    };
    let asked = asked();
    vec![receipt(&asked[..1]), receipt(&asked)]
}

pub(crate) fn publications() -> Vec<Vec<u8>> {
    let text = [&b"\xa2\x61v\x01\x62ok\xf5"[..], b"\xa4\x61v\x01\x62ok\xf4\x63why\x61x\x64code\x64busy"];
    text.map(<[u8]>::to_vec).into()
}

fn write_archive(roots: &[Cid], blocks: &[Block]) -> Vec<u8> {
    let mut wire = Cursor::new(Vec::new());
    let write = async {
        let mut car = CarWriter::begin(&mut wire, roots).await.expect("begins");
        for block in blocks {
            car.block(block).await.expect("writes");
        }
        car.finish().await.expect("ends");
        wire.flush().await.expect("flushes");
        wire.into_inner()
    };
    write.now_or_never().expect("room")
}

fn holder_key() -> SecretKey {
    SecretKey::from_bytes(&[5; 32]).expect("a key")
}

fn holder() -> PublicKey {
    holder_key().public()
}

fn asked() -> Vec<EnvelopeId> {
    (1..=3).map(|byte| EnvelopeId::from_bytes([byte; 32])).collect()
}

/// Where there is a clock to wait by, though nothing waits.
fn with_time<T>(work: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    work()
}
