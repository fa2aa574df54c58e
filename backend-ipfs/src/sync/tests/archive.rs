//! The bytes of an archive.

use bytes::Bytes;
use futures_util::io::Cursor;
use talkbox_core::hex;

use crate::{
    orbitdb::{Block, Cid},
    sync::car::{CarReader, CarWriter, Section},
};

#[tokio::test]
async fn an_archive_has_the_bytes_that_others_write() {
    let block = Block::of(Bytes::from_static(b"\xa0"));
    let mut wire = Cursor::new(Vec::new());
    let mut car = CarWriter::begin(&mut wire, &[block.cid]).await.expect("begins");
    car.block(&block).await.expect("writes");
    car.finish().await.expect("ends");
    // The SHA-256 of an empty map of CBOR, by any other tool.
    let link = "01711220c19a797fa1fd590cd2e5b42d1cf5f246e29b91684e2f87404b81dc345c7a56a0";
    let header = format!("3aa265726f6f747381d82a582500{link}6776657273696f6e01");
    assert_eq!(hex::encode(wire.get_ref()), format!("{header}25{link}a0"));
}

#[tokio::test]
async fn an_archive_is_read_back_and_junk_is_told_from_blocks() {
    let block = Block::of(Bytes::from_static(b"\xa0"));
    let junk = Block { cid: block.cid, bytes: Bytes::from_static(b"\xa1\x61a\x01") };
    // A link with an unknown encoding, and one that is its own content.
    let unknown = Block { cid: Cid::new_v1(0x72, *block.cid.hash()), bytes: block.bytes.clone() };
    let mut wire = Cursor::new(Vec::new());
    let mut car = CarWriter::begin(&mut wire, &[]).await.expect("begins");
    for block in [&junk, &unknown, &block] {
        car.block(block).await.expect("writes");
    }
    car.finish().await.expect("ends");
    wire.set_position(0);
    let mut car = CarReader::open(wire).await.expect("reads").expect("is one");
    assert!(car.roots().is_empty());
    let mut next = async || car.next().await.expect("reads");
    assert!(matches!(next().await, Some((Section::Junk, 40))));
    assert!(matches!(next().await, Some((Section::Junk, 37))));
    assert!(matches!(next().await, Some((Section::Block(read), 37)) if read == block));
    assert!(next().await.is_none());
}

#[tokio::test]
async fn no_bytes_are_no_archive_and_a_wrong_header_is_none() {
    assert!(CarReader::open(Cursor::new([])).await.expect("no fault").is_none());
    // Version 2, no version, roots that are no links, two values.
    for header in [
        &b"\xa2\x65roots\x80\x67version\x02"[..],
        b"\xa1\x65roots\x80",
        b"\xa2\x65roots\x81\x01\x67version\x01",
        b"\xa0\xa0",
    ] {
        let bytes = [&[header.len() as u8][..], header].concat();
        assert!(CarReader::open(Cursor::new(bytes)).await.is_err());
    }
}
