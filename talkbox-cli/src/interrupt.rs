//! Interrupts: Ctrl-C and SIGTERM.

use std::future::Future;

use crate::exit::{Code, Failure, Outcome};

/// Runs a command until it ends or is interrupted. What it was doing is dropped; what has to be on the disk is there.
pub(crate) async fn or(command: impl Future<Output = Outcome>) -> Outcome {
    tokio::select! {
        // The handler first: from the first moment on, an interrupt has to end in exit code 130.
        biased;
        () = requested() => Err(Failure::silent(Code::Interrupted)),
        outcome = command => outcome,
    }
}

/// Waits for the user, or the operating system, to ask the program to end. It listens from the call on, and not only from
/// when it is waited for.
#[cfg(unix)]
pub(crate) fn requested() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let handlers = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async move {
        let (Ok(mut interrupt), Ok(mut terminate)) = handlers else {
            // No handler can be set: the signal then ends the process by itself.
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

/// Waits for the user to ask the program to end.
#[cfg(not(unix))]
pub(crate) async fn requested() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}
