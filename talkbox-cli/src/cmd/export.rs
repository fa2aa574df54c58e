//! `talkbox export`: the envelopes of a mailbox, one event to a line, as they are on every network.

use std::{
    fs::OpenOptions,
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use crate::{
    exit::{Code, Failure, Outcome},
    session::Session,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Envelopes are sealed: the file opens only with the key of the mailbox, and `talkbox import` takes it \
                        anywhere. It holds what is stored here; `talkbox read` fetches the rest first."
)]
pub(crate) struct Arguments {
    /// The mailbox, by its name on this computer
    name: Option<String>,
    /// Write to a new file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let entry = session.entry(arguments.name.as_deref())?;
    let live = session.open_store().await?;
    let mut sink: Box<dyn Write + Send> = match &arguments.output {
        None => Box::new(io::stdout()),
        Some(path) => {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            {
                use std::os::unix::fs::OpenOptionsExt as _;
                // Sealed as it is, it says how much mail came, and when.
                options.mode(0o600);
            }
            let file = options.open(path);
            let file = file.map_err(|error| Failure::input(format!("cannot write {}: {error}", path.display())))?;
            Box::new(file)
        }
    };
    let mut sink = BufWriter::new(&mut sink);
    let (mut after, mut written, mut damaged) = (0, 0_u64, 0_u64);
    loop {
        // 0 is the store's own page size, which bounds the memory that this takes.
        let page = live.store.envelopes(entry.id, after, 0).await?;
        for envelope in &page.items {
            writeln!(sink, "{}", envelope.json())?;
            written += 1;
        }
        for row in &page.damaged {
            damaged += 1;
            session.output.warn(&row.error);
        }
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    sink.flush()?;
    session.finish_store(live).await;
    session.output.note(format_args!("{written} envelopes of `{}`", entry.name));
    Ok(if damaged == 0 { Code::Done } else { Code::Internal })
}
