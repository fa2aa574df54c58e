//! `talkbox delete`: deletes messages here, asks all holders to, and says which of them really did.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use talkbox_core::{Deletion, DeletionState, Locator, MessageId, Retry, client::Deleted};

use crate::{
    exit::{Code, Failure, Outcome},
    lookup,
    output::{GOOD, WARN},
    prompt,
    session::Session,
    text::{REASON, one_line, place},
    view::short,
};

/// How long the holders may take to answer, and to be asked again.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Here a message is gone at once, and does not come back. Others can only be asked: `confirmed` means \
                        that a holder was asked again and no longer has it, `requested` that it took the request, which \
                        proves nothing."
)]
pub(crate) struct Arguments {
    /// The messages, by the first digits of their ids
    #[arg(required = true)]
    ids: Vec<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let entry = session.entry(None)?;
    let live = session.open(Some(&entry)).await?;
    let mut ids: Vec<MessageId> = Vec::new();
    for prefix in &arguments.ids {
        let found = lookup::message(live.talkbox.store(), Some(&entry), prefix).await?;
        if found.owner != entry.id {
            return Err(Failure::input(format!(
                "`{prefix}` is an answer to a throw-away key, and not in `{}`",
                entry.name
            )));
        }
        let id = found.stored.message.id;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if !arguments.yes {
        if !prompt::can_confirm() {
            return Err(Failure::input("deleting needs a yes, and there is no terminal to ask at").hint("say `--yes`"));
        }
        let what = if ids.len() == 1 { "this message".to_owned() } else { format!("these {} messages", ids.len()) };
        if !prompt::confirm(&format!("Delete {what}, here and at all holders?"), false).await? {
            return Err(Failure::silent(Code::Done));
        }
    }
    let deleted = live.talkbox.delete(live.key()?, &ids, session.budget(PATIENCE)).await?;
    let answers = Answers::of(&deleted.requests);
    tell(session, &deleted, &answers)?;
    session.finish(live).await;
    Ok(Code::Done)
}

/// What the holders said, over all requests: a request names up to 100 envelopes.
#[derive(Debug, Default)]
struct Answers {
    /// How far each one got that took the requests: `Confirmed` only where it confirmed all.
    holders: BTreeMap<Locator, DeletionState>,
    /// In the holder's words, and whether it will be asked again.
    refused: BTreeMap<Locator, (String, bool)>,
    errors: Vec<String>,
}

impl Answers {
    fn of(requests: &[talkbox_core::Result<Deletion>]) -> Self {
        let mut answers = Self::default();
        for request in requests {
            match request {
                Ok(deletion) => {
                    for (holder, state) in &deletion.holders {
                        let known = answers.holders.entry(holder.clone()).or_insert(*state);
                        if *state != DeletionState::Confirmed {
                            *known = *state;
                        }
                    }
                    for refusal in &deletion.refused {
                        let again = refusal.retry != Retry::No;
                        answers.refused.insert(refusal.holder.clone(), (refusal.words.clone(), again));
                    }
                }
                Err(error) => answers.errors.push(error.to_string()),
            }
        }
        answers
    }
}

fn tell(session: &Session, deleted: &Deleted, answers: &Answers) -> Outcome<()> {
    let output = &session.output;
    if output.is_json() {
        let holders = answers.holders.iter().map(|(holder, state)| json!({"holder": holder, "state": word(*state)}));
        let refused = answers
            .refused
            .iter()
            .map(|(holder, (words, again))| json!({"holder": holder, "words": words, "again": again}));
        return output.object(&json!({
            "deleted": deleted.messages,
            "envelopes": deleted.envelopes,
            "holders": holders.collect::<Vec<_>>(),
            "refused": refused.collect::<Vec<_>>(),
            "errors": answers.errors,
        }));
    }
    for message in &deleted.messages {
        output.line(format_args!("{GOOD}deleted here{GOOD:#}  {}", short(message)))?;
    }
    for (holder, state) in &answers.holders {
        output.line(format_args!("{:<12}  {holder}", word(*state)))?;
    }
    for (holder, (words, again)) in &answers.refused {
        let (holder, words) = (place(holder), one_line(words, REASON));
        if *again {
            output.line(format_args!("{WARN}not asked{WARN:#}     {holder}: {words}; it is asked again later"))?;
        } else {
            output.line(format_args!("{WARN}refused{WARN:#}       {holder}: {words}"))?;
        }
    }
    for error in &answers.errors {
        output
            .line(format_args!("{WARN}not asked{WARN:#}     {}; it is asked again later", one_line(error, REASON)))?;
    }
    Ok(())
}

const fn word(state: DeletionState) -> &'static str {
    match state {
        DeletionState::Confirmed => "confirmed",
        _ => "requested",
    }
}
