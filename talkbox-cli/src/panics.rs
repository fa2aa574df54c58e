//! Panics: a bug in the program, told in one line and never as a stack trace.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{Mutex, PoisonError},
};

use crate::{
    exit::{Code, Failure},
    output::Output,
};

/// Where the last panic was. Kept and not printed at once: some are caught on purpose further down.
static LAST: Mutex<Option<String>> = Mutex::new(None);

/// Runs the program; a panic becomes an internal error.
pub(crate) fn caught(program: impl FnOnce() -> Code) -> Code {
    panic::set_hook(Box::new(|info| {
        // The place alone: the message may hold what somebody wrote.
        let place = info.location().map_or_else(|| "somewhere".to_owned(), ToString::to_string);
        tracing::error!(place, "panic");
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
    }));
    panic::catch_unwind(AssertUnwindSafe(program)).unwrap_or_else(|_| {
        let place = LAST.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        let failure = Failure::internal(format!("internal error at {place}"))
            .hint("nothing that was acknowledged is lost; please report this line and what you did");
        let json = crate::settings::wants_json(std::env::args_os().any(|argument| argument == "--json"));
        Output::new(json, false, 0, false).failure(&failure);
        Code::Internal
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_internal_error() {
        let hook = panic::take_hook();
        let code = caught(|| panic!("a bug"));
        panic::set_hook(hook);
        assert_eq!(code, Code::Internal);
    }
}
