//! Peers that hang, drip, lie and never end, on either side.

use futures_util::{
    FutureExt as _,
    io::{AsyncWriteExt as _, Cursor},
};
use proptest::prelude::*;
use talkbox_core::{
    ErrorKind, Result,
    anti_entropy::{FrameLimit, respond},
};

use super::support::{Log, Pipe, digest, entry, limits, mailbox, manifest, month, pipe, short};
use crate::{
    orbitdb::Block,
    sync::{
        Exchange, Limits, Push, Replica as _, Request, Served, Standing,
        car::{CarReader, CarWriter},
        channel::Channel,
        compare, exchange, greeting, serve,
    },
};

/// What becomes of a client that exchanges with a server which does this.
async fn ask<F: Future>(ours: Log, limits: Limits, liar: impl FnOnce(Channel<Pipe>) -> F) -> Result<Exchange> {
    let (here, there) = pipe(4_096);
    let asking = exchange(here, mailbox(), month(), true, &ours, limits);
    let lying = liar(Channel::new(there, self::limits().frame));
    let (asked, _) = tokio::join!(asking, lying);
    asked
}

/// Serves truly until the entries go.
async fn compared(channel: &mut Channel<Pipe>, theirs: &Log) {
    channel.expect(1_024).await.expect("a request");
    channel.send(&greeting::encode(&Ok(Standing::default())).expect("encodes")).await.expect("sends");
    let set = theirs.set().await.expect("a set");
    compare::answer(channel, &*set).await.expect("compares");
    compare::read_wanted(channel).await.expect("hears");
}

/// Writes a CAR of these sections as they are, and then what is given.
async fn write_sections(channel: &mut Channel<Pipe>, sections: &[Vec<u8>], end: &[u8]) {
    let mut wire = Cursor::new(Vec::new());
    drop(CarWriter::begin(&mut wire, &[manifest()]).await.expect("writes").finish().await);
    let mut bytes = wire.into_inner();
    for section in sections {
        let mut buffer = unsigned_varint::encode::usize_buffer();
        bytes.extend_from_slice(unsigned_varint::encode::usize(section.len(), &mut buffer));
        bytes.extend_from_slice(section);
    }
    bytes.extend_from_slice(end);
    // Whoever is lied to may have gone.
    drop(channel.writer.write_all(&bytes).await);
    drop(channel.close().await);
}

fn section(link: &Block, bytes: &[u8]) -> Vec<u8> {
    [&link.cid.to_bytes()[..], bytes].concat()
}

fn honest(block: &Block) -> Vec<u8> {
    section(block, &block.bytes)
}

fn hundred() -> Log {
    Log::of((0..100).map(|number| entry(number, 100)))
}

#[tokio::test]
async fn a_server_that_hangs_times_out() {
    let asked = ask(hundred(), short(), async |channel| channel);
    assert_eq!(asked.await.expect_err("hangs").kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_server_that_drips_times_out() {
    let ours = hundred();
    let asked = ask(ours.clone(), short(), |mut channel| async move {
        channel.expect(1_024).await.expect("a request");
        // A frame that would take an hour: a byte each time the pipe has been looked at.
        loop {
            if channel.writer.write_all(&[0x7f]).await.is_err() || channel.writer.flush().await.is_err() {
                break;
            }
            tokio::time::sleep(short().frame / 20).await;
        }
    });
    assert_eq!(asked.await.expect_err("drips").kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_server_that_compares_without_end_is_left() {
    let ours = hundred();
    let theirs = Log::of((200..10_000).map(|number| entry(number, 16)));
    let set = theirs.set().await.expect("a set");
    let mut rounds = 0;
    let asked = ask(ours.clone(), limits(), |mut channel| async {
        let mut channel = {
            channel.expect(1_024).await.expect("a request");
            channel.send(&greeting::encode(&Ok(Standing::default())).expect("encodes")).await.expect("sends");
            channel
        };
        // Says the same to whatever it is asked: that all differs.
        let first = channel.expect(131_072).await.expect("a message");
        let answer = respond(&*set, &first, FrameLimit::at_most(4_096).expect("enough")).expect("answers");
        loop {
            rounds += 1;
            channel.send(&answer).await.expect("sends");
            if channel.expect(131_072).await.expect("a message").is_empty() {
                break;
            }
        }
        compare::read_wanted(&mut channel).await.expect("hears");
        channel.close().await.expect("closes");
        // What the other gives is taken, or it would wait.
        while channel.next(131_072).await.is_ok_and(|frame| frame.is_some()) {}
    });
    let asked = asked.await;
    assert!(rounds <= 512, "{rounds}");
    assert!(asked.expect("comes to an end").more);
}

#[tokio::test]
async fn wrong_hashes_and_what_was_not_asked_are_dropped_and_good_ones_kept() {
    let ours = Log::default();
    let theirs = hundred();
    let asked = ask(ours.clone(), limits(), |mut channel| async move {
        compared(&mut channel, &theirs).await;
        let unasked = entry(999, 5_000);
        let sections: Vec<_> = (0..30)
            .flat_map(|number| {
                let (good, other) = (entry(number, 100), entry(number + 50, 100));
                [section(&other, &good.bytes), honest(&unasked), honest(&good)]
            })
            .collect();
        write_sections(&mut channel, &sections, &[]).await;
    });
    let asked = asked.await.expect("goes on");
    assert_eq!((asked.came.new, asked.came.junk, asked.came.left, ours.len()), (30, 60, 70, 30));
    assert!(asked.more);
}

#[tokio::test]
async fn much_junk_ends_the_session_and_what_was_good_stays() {
    let ours = Log::default();
    let theirs = hundred();
    let asked = ask(ours.clone(), limits(), |mut channel| async move {
        compared(&mut channel, &theirs).await;
        let good = entry(1, 100);
        let mut sections = vec![honest(&good)];
        sections.extend((0..65).map(|number| section(&entry(number, 100), b"another")));
        write_sections(&mut channel, &sections, &[]).await;
    });
    assert_eq!(asked.await.expect_err("junk").kind(), ErrorKind::VerificationFailed);
    assert_eq!(ours.digests(), [digest(&entry(1, 100))]);
}

#[tokio::test]
async fn small_blocks_beside_those_asked_for_have_a_bound() {
    let ours = Log::default();
    let theirs = Log::of([entry(1, 100)]);
    let asked = ask(ours.clone(), limits(), |mut channel| async move {
        compared(&mut channel, &theirs).await;
        let sections: Vec<_> = (10..20).map(|number| honest(&entry(number, 100))).collect();
        write_sections(&mut channel, &sections, &[]).await;
    });
    let asked = asked.await.expect("goes on");
    assert_eq!((asked.came.junk, asked.came.left), (9, 1));
}

#[tokio::test]
async fn an_archive_that_is_cut_off_is_an_error_and_what_came_stays() {
    let ours = Log::default();
    let theirs = hundred();
    let asked = ask(ours.clone(), limits(), |mut channel| async move {
        compared(&mut channel, &theirs).await;
        let sections = [honest(&entry(1, 100)), honest(&entry(2, 100))];
        write_sections(&mut channel, &sections, &[0x80, 0x02, 1, 2, 3]).await;
    });
    assert_eq!(asked.await.expect_err("cut off").kind(), ErrorKind::Unreachable);
    assert_eq!(ours.len(), 2);
}

#[tokio::test]
async fn an_archive_of_another_log_or_with_a_large_section_is_refused() {
    for (root, tail, kind) in [
        (entry(7, 100).cid, &[][..], ErrorKind::Unexpected),
        // 2 MiB.
        (manifest(), &[0x80, 0x80, 0x80, 0x01][..], ErrorKind::TooLarge),
        (manifest(), &[0x02, 0xff, 0xff][..], ErrorKind::Unexpected),
    ] {
        let ours = Log::default();
        let theirs = hundred();
        let asked = ask(ours.clone(), limits(), |mut channel| async move {
            compared(&mut channel, &theirs).await;
            let mut wire = Cursor::new(Vec::new());
            CarWriter::begin(&mut wire, &[root]).await.expect("writes").finish().await.expect("ends");
            channel.writer.write_all(&[wire.get_ref(), tail].concat()).await.expect("sends");
            drop(channel.close().await);
        });
        assert_eq!(asked.await.expect_err("refused").kind(), kind);
    }
}

/// What becomes of a server whose client does this.
async fn answer<F: Future>(theirs: Log, limits: Limits, liar: impl FnOnce(Channel<Pipe>) -> F) -> Result<Served> {
    let (here, there) = pipe(4_096);
    let serving = serve(there, |request| theirs.admit(request), limits);
    let (served, _) = tokio::join!(serving, liar(Channel::new(here, self::limits().frame)));
    served
}

fn request(want: bool, give: bool) -> Vec<u8> {
    Request { mailbox: mailbox(), month: month(), want, give }.encode().expect("encodes")
}

#[tokio::test]
async fn a_client_that_hangs_times_out_wherever_it_does() {
    let hanging = (0..4).map(async |frames| {
        let served = answer(hundred(), short(), |mut channel| async move {
            let begin = Log::default().set().await.expect("a set");
            for at in 0..frames {
                match at {
                    0 => channel.send(&request(true, true)).await.expect("sends"),
                    1 => {
                        channel.expect(4_096).await.expect("an answer");
                        compare::ask(&mut channel, &*begin, true).await.map(drop).expect("compares");
                    }
                    _ => compare::send_wanted(&mut channel, &[]).await.expect("sends"),
                }
            }
            channel
        });
        assert_eq!(served.await.expect_err("hangs").kind(), ErrorKind::Timeout, "after {frames}");
    });
    futures_util::future::join_all(hanging).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_times_out() {
    let theirs = Log::of((0..20).map(|number| entry(number, 60_000)));
    let wanted = theirs.digests();
    let served = answer(theirs.clone(), short(), |mut channel| async move {
        channel.send(&request(true, false)).await.expect("sends");
        channel.expect(4_096).await.expect("an answer");
        channel.send(&[]).await.expect("sends");
        compare::send_wanted(&mut channel, &wanted).await.expect("sends");
        channel.close().await.expect("closes");
        channel
    });
    assert_eq!(served.await.expect_err("does not read").kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_client_that_asks_without_end_is_left() {
    let theirs = hundred();
    let served = answer(theirs.clone(), limits(), |mut channel| async move {
        channel.send(&request(true, true)).await.expect("sends");
        channel.expect(4_096).await.expect("an answer");
        // The version alone: a message about nothing, which is answered.
        while channel.send(&[0x61]).await.is_ok() && channel.expect(131_072).await.is_ok() {}
    });
    assert_eq!(served.await.expect_err("without end").kind(), ErrorKind::Unexpected);

    let served = answer(theirs.clone(), limits(), |mut channel| async move {
        channel.send(&request(true, true)).await.expect("sends");
        channel.expect(4_096).await.expect("an answer");
        channel.send(&[]).await.expect("sends");
        while channel.send(&[7; 131_072]).await.is_ok() {}
    });
    assert_eq!(served.await.expect_err("without end").kind(), ErrorKind::Unexpected);
}

#[tokio::test]
async fn a_client_that_gives_too_much_is_cut_off() {
    let theirs = Log::default();
    let limits = Limits { bytes: 50_000, ..limits() };
    let served = answer(theirs.clone(), limits, |mut channel| async move {
        channel.send(&request(false, true)).await.expect("sends");
        channel.expect(4_096).await.expect("an answer");
        let sections: Vec<_> = (0..100).map(|number| honest(&entry(number, 1_000))).collect();
        write_sections(&mut channel, &sections, &[]).await;
    });
    assert_eq!(served.await.expect_err("too much").kind(), ErrorKind::TooLarge);
    assert_eq!(theirs.len(), 48);
}

#[tokio::test]
async fn a_request_that_is_none_is_refused() {
    let wrong = [
        (vec![0; 2_000], ErrorKind::TooLarge),
        (vec![0xff; 10], ErrorKind::Unexpected),
        (b"\xa0".to_vec(), ErrorKind::Unexpected),
        (Vec::new(), ErrorKind::Unexpected),
    ];
    for (bytes, kind) in wrong {
        let served = answer(hundred(), limits(), |mut channel| async move {
            drop(channel.send(&bytes).await);
            channel
        });
        assert_eq!(served.await.expect_err("refused").kind(), kind);
    }
    // Another version is no fault.
    let served = answer(hundred(), limits(), |mut channel| async move {
        channel.send(b"\xa1\x61v\x02").await.expect("sends");
        let answer = greeting::decode(&channel.expect(4_096).await.expect("an answer")).expect("is one");
        assert_eq!(answer.expect_err("refused").code, crate::sync::Code::Refused);
    });
    served.await.expect("no fault");
}

#[tokio::test]
async fn a_pusher_waits_no_longer_than_it_takes_to_store() {
    let (here, there) = pipe(4_096);
    let limits = Limits { settle: short().frame, ..limits() };
    let pushing = async {
        let push = Push::begin(here, mailbox(), month(), limits).await.expect("begins");
        push.give(manifest(), &[entry(1, 100)]).await
    };
    let lying = async {
        let mut channel = Channel::new(there, limits.frame);
        channel.expect(1_024).await.expect("a request");
        channel.send(&greeting::encode(&Ok(Standing::default())).expect("encodes")).await.expect("sends");
        channel
    };
    let (pushed, _there) = tokio::join!(pushing, lying);
    assert_eq!(pushed.expect_err("hangs").kind(), ErrorKind::Timeout);
}

proptest! {
    #[test]
    fn any_bytes_are_an_answer_a_request_a_car_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = greeting::decode(&bytes);
        let _ = Request::decode(&bytes);
        let reading = async {
            let Ok(Some(mut car)) = CarReader::open(Cursor::new(&bytes)).await else { return };
            while let Ok(Some(_)) = car.next().await {}
        };
        reading.now_or_never().expect("nothing to wait for");
    }

    #[test]
    fn a_car_with_wrong_bytes_gives_blocks_or_errors(
        lengths in prop::collection::vec(16..300_usize, 1..5), at: prop::sample::Index, byte: u8,
    ) {
        let blocks: Vec<_> = lengths.iter().zip(0..).map(|(length, number)| entry(number, *length)).collect();
        let damaged = async {
            let mut wire = Cursor::new(Vec::new());
            let mut car = CarWriter::begin(&mut wire, &[manifest()]).await.expect("begins");
            for block in &blocks {
                car.block(block).await.expect("writes");
            }
            car.finish().await.expect("ends");
            let mut bytes = wire.into_inner();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let mut found = Vec::new();
            if let Ok(Some(mut car)) = CarReader::open(Cursor::new(bytes)).await {
                while let Ok(Some((section, _))) = car.next().await {
                    if let crate::sync::car::Section::Block(block) = section {
                        found.push(block);
                    }
                }
            }
            found
        };
        // Whatever is read as a block has the hash that its link says.
        for block in damaged.now_or_never().expect("nothing to wait for") {
            prop_assert!(Block::checked(block.cid, block.bytes.clone()).is_some());
        }
    }

    #[test]
    fn any_bytes_from_either_side_end_a_session(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            for serving in [true, false] {
                let (here, mut there) = pipe(65_536);
                there.write_all(&bytes).await.expect("sends");
                there.close().await.expect("closes");
                let log = Log::default();
                if serving {
                    let _ = serve(here, |_| async { Ok(log) }, limits()).await;
                } else {
                    let _ = exchange(here, mailbox(), month(), true, &log, limits()).await;
                }
            }
        });
    }
}
