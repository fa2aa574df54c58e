//! The text of a message: an argument, a file, or what is piped in.

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::Path,
};

use talkbox_core::seal::MAX_BODY_BYTES;

use crate::exit::{Code, Failure, Outcome};

/// Takes the text from where it is. `-`, or a pipe where there is no text, means standard input, of which the last line
/// break is dropped: `echo` adds it.
///
/// # Errors
/// Where there is no text, it is no UTF-8, or is longer than a message may be.
pub(crate) fn text(argument: Option<&str>, file: Option<&Path>) -> Outcome<String> {
    let body = match (argument, file) {
        (Some(text), _) if text != "-" => text.to_owned(),
        (_, Some(path)) => {
            let file = File::open(path).map_err(|error| cannot_read(&path.display(), &error))?;
            bounded(file, &path.display())?
        }
        (None, None) if io::stdin().is_terminal() => {
            return Err(Failure::input("there is no text to send")
                .hint("give it as an argument, pipe it in, or name a file: `--from-file FILE`"));
        }
        _ => {
            let mut body = bounded(io::stdin().lock(), &"standard input")?;
            if body.ends_with('\n') {
                body.pop();
                if body.ends_with('\r') {
                    body.pop();
                }
            }
            body
        }
    };
    if body.is_empty() {
        return Err(Failure::input("the message is empty").hint("nothing was sent"));
    }
    if body.len() > MAX_BODY_BYTES {
        return Err(too_large());
    }
    Ok(body)
}

fn bounded(input: impl Read, name: &dyn std::fmt::Display) -> Outcome<String> {
    let mut bytes = Vec::new();
    // Two more for a line break at the end, one more to notice that there is more.
    input.take(MAX_BODY_BYTES as u64 + 3).read_to_end(&mut bytes).map_err(|error| cannot_read(name, &error))?;
    if bytes.len() > MAX_BODY_BYTES + 2 {
        return Err(too_large());
    }
    String::from_utf8(bytes).map_err(|_| Failure::input(format!("{name} is no text (UTF-8)")))
}

fn too_large() -> Failure {
    Failure::new(Code::BadInput, "too-large", "a message has at most 24 KiB of text").hint("send it in parts")
}

fn cannot_read(name: &dyn std::fmt::Display, error: &io::Error) -> Failure {
    Failure::input(format!("cannot read {name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), content).expect("written");
        file
    }

    #[test]
    fn a_text_is_taken_as_it_is_and_bounded() {
        assert_eq!(text(Some("hi\n"), None).expect("a text"), "hi\n");
        let exact = file(&[b'x'; MAX_BODY_BYTES]);
        assert_eq!(text(None, Some(exact.path())).expect("fits").len(), MAX_BODY_BYTES);
        for size in [MAX_BODY_BYTES + 1, MAX_BODY_BYTES + 3, MAX_BODY_BYTES * 4] {
            let long = file(&vec![b'x'; size]);
            assert!(text(None, Some(long.path())).expect_err("too long").message().contains("24 KiB"));
        }
        assert!(text(Some(""), None).is_err());
        assert!(text(None, Some(file(&[0xff, 0xfe]).path())).expect_err("no text").message().contains("UTF-8"));
    }
}
