//! How a command ends: the exit codes of `docs/formats.md` §10, and errors that say what happened, why, and what to do.

use std::{borrow::Cow, fmt, io, process::ExitCode};

use serde_json::{Map, Value, json};
use talkbox_core::{Error, ErrorKind};

/// What the process tells the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    Done = 0,
    Internal = 1,
    BadInput = 2,
    NotFound = 3,
    Unreachable = 4,
    TooFewAcks = 5,
    Locked = 6,
    VerificationFailed = 7,
    Refused = 8,
    Timeout = 9,
    Interrupted = 130,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

impl Code {
    pub(crate) const fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Unsupported | ErrorKind::ConfigInvalid | ErrorKind::InvalidInput | ErrorKind::TooLarge => {
                Self::BadInput
            }
            ErrorKind::InvalidEnvelope | ErrorKind::VerificationFailed => Self::VerificationFailed,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Denied | ErrorKind::Refused | ErrorKind::RateLimited => Self::Refused,
            ErrorKind::Locked => Self::Locked,
            ErrorKind::Unreachable => Self::Unreachable,
            ErrorKind::Timeout => Self::Timeout,
            _ => Self::Internal,
        }
    }
}

/// What a command gives back: how it went, or why it failed.
pub(crate) type Outcome<T = Code> = std::result::Result<T, Failure>;

/// Why a command failed, for people and for programs.
#[derive(Debug)]
pub(crate) struct Failure(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: Code,
    name: Cow<'static, str>,
    message: String,
    hint: Option<String>,
    details: Map<String, Value>,
    /// Whoever reads our output has gone: nothing is wrong, and nobody is left to tell.
    silent: bool,
}

impl Failure {
    pub(crate) fn new(code: Code, name: impl Into<Cow<'static, str>>, message: impl fmt::Display) -> Self {
        Self(Box::new(Inner {
            code,
            name: name.into(),
            message: message.to_string(),
            hint: None,
            details: Map::new(),
            silent: false,
        }))
    }

    pub(crate) fn input(message: impl fmt::Display) -> Self {
        Self::new(Code::BadInput, "invalid-input", message)
    }

    pub(crate) fn not_found(message: impl fmt::Display) -> Self {
        Self::new(Code::NotFound, "not-found", message)
    }

    pub(crate) fn locked(message: impl fmt::Display) -> Self {
        Self::new(Code::Locked, "locked", message)
    }

    pub(crate) fn timeout(message: impl fmt::Display) -> Self {
        Self::new(Code::Timeout, "timeout", message)
    }

    pub(crate) fn internal(message: impl fmt::Display) -> Self {
        Self::new(Code::Internal, "unexpected", message)
    }

    /// Ends with this code and says nothing: what there was to say has been said, or it was the user who ended it.
    pub(crate) fn silent(code: Code) -> Self {
        let mut failure = Self::new(code, "silent", "");
        failure.0.silent = true;
        failure
    }

    /// Says what to do next.
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.0.hint = Some(hint.to_string());
        self
    }

    /// Adds a member to the error object of `--json`.
    pub(crate) fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.details.insert(name.to_owned(), value.into());
        self
    }

    /// Puts what was being done before the message.
    pub(crate) fn while_doing(mut self, what: impl fmt::Display) -> Self {
        self.0.message = format!("{what}: {}", self.0.message);
        self
    }

    pub(crate) fn code(&self) -> Code {
        self.0.code
    }

    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    pub(crate) fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.0.silent
    }

    /// The object that `--json` prints.
    pub(crate) fn to_json(&self) -> Value {
        let mut error = self.0.details.clone();
        error.insert("code".to_owned(), json!(self.0.name));
        error.insert("message".to_owned(), json!(self.0.message));
        error.insert("hint".to_owned(), json!(self.0.hint));
        json!({ "v": 1, "error": error })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // Which operation of the library it was says nothing to a person.
        let text = error.to_string();
        let operation = error.operation().map(|operation| format!("{operation}: "));
        let message = operation.as_deref().and_then(|operation| text.strip_prefix(operation)).unwrap_or(&text);
        let failure = Self::new(Code::of(error.kind()), error.kind().as_str(), message);
        let place = error.context("at").filter(|place| place.starts_with('-') || place.starts_with("TALKBOX_"));
        let hint = match place {
            Some(_) if error.kind() == ErrorKind::ConfigInvalid => Some("say it otherwise there"),
            _ => hint_for(error.kind(), error.message()),
        };
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(Code::Done),
            io::ErrorKind::Interrupted => Self::silent(Code::Interrupted),
            _ => Self::new(Code::Internal, "io", error),
        }
    }
}

/// What helps against an error of this kind where the command knows nothing better.
fn hint_for(kind: ErrorKind, message: &str) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::Storage if message.contains("damaged") => {
            "keep a copy of that file, move it away, and try again: what holders still keep is fetched anew"
        }
        ErrorKind::Storage if message.contains("for writing") || message.contains("be written") => {
            "its folder has to be one that you may write to"
        }
        ErrorKind::Storage if message.contains("busy") => "try again once the other command has ended",
        ErrorKind::Locked if message.contains("another key") => {
            "put the `store.key` back that belongs to it; `talkbox config path` says where"
        }
        ErrorKind::ConfigInvalid => "correct it there; `talkbox config check` then says whether all is right",
        ErrorKind::Unreachable => "check the network and `talkbox status`, then try again",
        ErrorKind::Timeout => "try again, or allow more time with `--timeout SECONDS`",
        ErrorKind::RateLimited => "wait a little; the outbox tries again by itself",
        ErrorKind::Locked => "type the password again, or check the file that `--password-file` names",
        ErrorKind::Storage => "check that the disk is not full; `talkbox config path` says where the store is",
        ErrorKind::Unexpected => "run it again with `-v`; if it persists, please report it",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_code_of_the_formats() {
        let cases = [
            (ErrorKind::InvalidInput, 2),
            (ErrorKind::ConfigInvalid, 2),
            (ErrorKind::NotFound, 3),
            (ErrorKind::Unreachable, 4),
            (ErrorKind::Locked, 6),
            (ErrorKind::VerificationFailed, 7),
            (ErrorKind::Refused, 8),
            (ErrorKind::Denied, 8),
            (ErrorKind::Timeout, 9),
            (ErrorKind::Storage, 1),
            (ErrorKind::Unexpected, 1),
        ];
        for (kind, code) in cases {
            assert_eq!(Failure::from(Error::new(kind, "x")).code() as u8, code, "{kind}");
        }
    }

    #[test]
    fn a_closed_pipe_is_a_quiet_success() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(failure.is_silent() && failure.code() == Code::Done);
    }

    #[test]
    fn the_json_of_an_error_has_code_message_and_hint() {
        let failure = Failure::from(Error::new(ErrorKind::Locked, "the password is wrong")).detail("name", "tips");
        let expected = json!({"v": 1, "error": {
            "code": "locked",
            "message": "the password is wrong",
            "hint": "type the password again, or check the file that `--password-file` names",
            "name": "tips",
        }});
        assert_eq!(failure.to_json(), expected);
    }
}
