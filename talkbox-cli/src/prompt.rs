//! Questions to a person at a terminal. Where there is nobody to ask, they fail and say which flag answers them.

use std::io::{self, BufRead, IsTerminal, Write};

use zeroize::Zeroizing;

use crate::exit::{Failure, Outcome};

/// Whether there is a person to ask.
pub(crate) fn is_possible() -> bool {
    // Of the three, whichever is redirected: `/dev/tty` alone would also find the terminal of a detached job.
    io::stdin().is_terminal() || io::stderr().is_terminal()
}

/// Asks for a secret, without echo. `instead` says how to give it where nobody can be asked.
pub(crate) fn secret(question: &str, instead: &str) -> Outcome<Zeroizing<String>> {
    if !is_possible() {
        return Err(Failure::locked("a secret is needed and there is no terminal to ask at").hint(instead));
    }
    Ok(Zeroizing::new(rpassword::prompt_password(format!("{question}: "))?))
}

/// Asks for a new secret twice.
pub(crate) fn new_secret(question: &str, instead: &str) -> Outcome<Zeroizing<String>> {
    let first = secret(question, instead)?;
    let second = secret(&format!("{question}, once more"), instead)?;
    if first != second {
        return Err(Failure::input("the two are not the same: nothing was changed"));
    }
    Ok(first)
}

/// Asks a question that is answered with yes or no; an empty answer is `default`.
///
/// On a thread of its own: it may wait for ever, and must not keep an interrupt from being noticed.
pub(crate) async fn confirm(question: &str, default: bool) -> Outcome<bool> {
    let question = format!("{question} [{}] ", if default { "Y/n" } else { "y/N" });
    let answer = tokio::task::spawn_blocking(move || -> io::Result<String> {
        let mut stderr = io::stderr();
        stderr.write_all(question.as_bytes())?;
        stderr.flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(answer)
    });
    let answer = answer.await.map_err(Failure::internal)??;
    Ok(match answer.trim().to_ascii_lowercase().as_str() {
        "" => default && answer.ends_with('\n'),
        "y" | "yes" => true,
        _ => false,
    })
}

/// Whether a yes-or-no question can be asked: it is read from standard input.
pub(crate) fn can_confirm() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}
