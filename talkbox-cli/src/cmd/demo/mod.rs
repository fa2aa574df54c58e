//! `talkbox demo`: the main job, on this computer alone. Every step is a command of this program in a process of its
//! own, over real sockets, with a home of its own for each of the two people: what it shows is what one types.

mod people;
mod phases;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::people::{Home, NodeProcess, Stage};
use crate::{
    exit::{Code, Failure, Outcome},
    output::{BOLD, CODE, DIM, GOOD},
    session::Session,
    text::{date, one_line},
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "It starts a node on loopback, makes two mailboxes, sends, kills the node and starts it again, reads, \
                        replies, and shows who stores what. Nothing leaves this computer, and nothing stays on it. It \
                        ends with exit code 0 only if every step was what it should be."
)]
pub(crate) struct Arguments {
    /// Instead: one mailbox under `nostr`, `hybrid` and `ipfs`, by switching `backend` alone, and nothing lost
    #[arg(long)]
    phases: bool,
}

const QUESTION: &str = "The invoices are in the blue folder.";
const ANSWER: &str = "Yes please. Who signed it?";

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let mut demo = Demo { session, step: 0, began: Instant::now() };
    let stage = Stage::new()?;
    demo.title()?;
    if arguments.phases {
        demo.play_phases(&stage).await?;
    } else {
        demo.play(&stage).await?;
    }
    demo.end()
}

struct Demo<'a> {
    session: &'a Session,
    step: u32,
    began: Instant,
}

impl Demo<'_> {
    async fn play(&mut self, stage: &Stage) -> Outcome<()> {
        let node = NodeProcess::start(stage, "node", None).await?;
        let url = node.url().to_owned();
        self.step("node", "A node starts: a relay that keeps sealed messages", "talkbox node", json!({"url": url}))?;
        self.tell("listens", &url)?;

        let (ada, bob) = (Home::new(stage, "ada", &url)?, Home::new(stage, "bob", &url)?);
        let words = stage.file("words");
        let made = ada.one(&["new", "tips", "--plain-key", "--save-words", &words]).await?;
        let code = text(&made, "code")?.to_owned();
        check(!made["announced"]["stored"].as_array().is_none_or(Vec::is_empty), "the code was announced")?;
        let secret = std::fs::read_to_string(&words)?;
        check(secret.split_whitespace().count() == 12, "there are twelve words")?;
        self.step("new", "Ada makes a mailbox", "talkbox new tips", json!({"code": code}))?;
        self.tell("secret", &masked(&secret))?;
        self.tell("public", &format!("{CODE}{code}{CODE:#}  (dictate it, print it, post it)"))?;

        let made = bob.one(&["new", "bob", "--plain-key"]).await?;
        let bobs = text(&made, "npub")?.to_owned();
        self.step("new", "Bob, on another computer, makes one too", "talkbox new bob", json!({"code": made["code"]}))?;
        self.tell("public", text(&made, "code")?)?;

        let sent = bob.one(&["send", &code, QUESTION, "--from", "bob"]).await?;
        check(text(&sent, "state")? == "stored", "the message is stored")?;
        let message = text(&sent, "id")?.to_owned();
        let shown = format!("talkbox send {code} \"{QUESTION}\" --from bob");
        self.step("send", "Bob knows only the code; it is found, checked and pinned", &shown, sent.clone())?;
        self.receipts(&sent)?;

        let mut wrong = code.clone();
        let last = if wrong.pop() == Some('0') { '1' } else { '0' };
        wrong.push(last);
        let refused = bob.fails(&["send", &wrong, "hello"], Code::BadInput).await?;
        let possible = refused["error"]["possible"].to_string();
        check(possible.contains(&code), "the right code is among the possible ones")?;
        self.step(
            "typo",
            "One wrong symbol is noticed before anything is sent",
            &format!("talkbox send {wrong} hello"),
            refused,
        )?;
        self.tell("refused", &format!("exit code 2; possible: {code}"))?;

        node.kill().await?;
        let node = NodeProcess::start(stage, "node", Some(&url)).await?;
        self.step(
            "crash",
            "The node is killed (SIGKILL) and started again",
            "kill -9 …; talkbox node",
            json!({"url": url}),
        )?;
        self.tell("listens", node.url())?;

        let read = ada.one(&["read", "tips"]).await?;
        check(text(&read, "body")? == QUESTION, "Ada reads what Bob wrote")?;
        check(text(&read, "from")? == bobs && text(&read, "id")? == message, "the message is Bob's")?;
        self.step(
            "read",
            "Ada reads: the message outlived the crash, and is proved to be Bob's",
            "talkbox read",
            read.clone(),
        )?;
        self.tell("message", &format!("{}  {}", &message[..8], one_line(text(&read, "body")?, 70)))?;

        let replied = ada.one(&["reply", &message[..8], ANSWER]).await?;
        check(text(&replied, "state")? == "stored", "the answer is stored")?;
        self.step("reply", "Ada answers", &format!("talkbox reply {} \"{ANSWER}\"", &message[..8]), replied.clone())?;
        self.receipts(&replied)?;

        let lines = bob.lines(&["read", "bob"]).await?;
        let answer = lines.iter().find(|line| line["re"] == message.as_str());
        let answer = answer.ok_or_else(|| wrong_step("the answer names the message that it answers"))?;
        check(text(answer, "body")? == ANSWER, "Bob reads what Ada wrote")?;
        self.step("read", "Bob reads the answer", "talkbox read", answer.clone())?;
        self.tell("message", &format!("{}  {}", &text(answer, "id")?[..8], one_line(text(answer, "body")?, 70)))?;
        node.kill().await
    }

    fn title(&self) -> Outcome<()> {
        if self.session.output.is_json() {
            return Ok(());
        }
        self.session
            .output
            .line(format_args!("{BOLD}Talkbox demo{BOLD:#}  all of it on this computer: no network, no account\n"))
    }

    fn step(&mut self, name: &str, what: &str, typed: &str, result: Value) -> Outcome<()> {
        self.step += 1;
        let output = &self.session.output;
        if output.is_json() {
            let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            return output.object(&json!({"step": self.step, "name": name, "ok": true, "at_ms": ms, "result": result}));
        }
        output.line(format_args!("{BOLD}{:>2}  {what}{BOLD:#}", self.step))?;
        output.line(format_args!("    {DIM}$ {typed}{DIM:#}"))
    }

    fn tell(&self, name: &str, value: &str) -> Outcome<()> {
        if self.session.output.is_json() {
            return Ok(());
        }
        self.session.output.line(format_args!("    {name:<8} {value}"))
    }

    /// Who stores it, as they say themselves.
    fn receipts(&self, sent: &Value) -> Outcome<()> {
        let acks = sent["stored"].as_array().map(Vec::as_slice).unwrap_or_default();
        check(!acks.is_empty(), "somebody stores it")?;
        for ack in acks {
            let (holder, level) = (text(ack, "holder")?, text(ack, "level")?);
            let until = ack["until"].as_u64().map(|until| format!(", until {}", date(talkbox_core::Timestamp(until))));
            let until = until.unwrap_or_default();
            self.tell("receipt", &format!("{holder} says: {GOOD}{level}{GOOD:#}{until}"))?;
        }
        Ok(())
    }

    fn end(&self) -> Outcome {
        let output = &self.session.output;
        let took = self.began.elapsed();
        if output.is_json() {
            let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            output.object(&json!({"demo": "ok", "steps": self.step, "ms": ms}))?;
            return Ok(Code::Done);
        }
        output.line(format_args!(
            "\n{GOOD}All {} steps were as they should be{GOOD:#} ({:.1} s).\n",
            self.step,
            seconds(took)
        ))?;
        output.line(format_args!("{BOLD}For real{BOLD:#}, over public relays:"))?;
        for (typed, what) in [
            ("talkbox config init", "write a configuration, with relays that you can change"),
            ("talkbox new", "make a mailbox; its words are shown once"),
            ("talkbox id --qr", "show its code, to be scanned"),
            ("talkbox send CODE \"hello\"", "write to somebody"),
            ("talkbox watch", "wait for messages"),
        ] {
            output.line(format_args!("    {typed:<28} {DIM}{what}{DIM:#}"))?;
        }
        Ok(Code::Done)
    }
}

fn seconds(took: Duration) -> f64 {
    took.as_secs_f64()
}

/// The first word, so that one sees that they are words.
fn masked(words: &str) -> String {
    let first = words.split_whitespace().next().unwrap_or_default();
    format!("{first} {}  (12 words, shown once; here they are thrown away)", ["••••"; 3].join(" "))
}

fn text<'a>(object: &'a Value, member: &str) -> Outcome<&'a str> {
    object[member].as_str().ok_or_else(|| wrong_step(&format!("the answer has a `{member}`")))
}

fn check(holds: bool, what: &str) -> Outcome<()> {
    if holds { Ok(()) } else { Err(wrong_step(what)) }
}

fn wrong_step(what: &str) -> Failure {
    Failure::internal(format!("the demo is not what it should be: it is not so that {what}"))
}
