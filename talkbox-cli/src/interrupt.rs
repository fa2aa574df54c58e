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

/// Waits for the user, or the operating system, to ask the program to end.
#[cfg(unix)]
pub(crate) async fn requested() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // No handler can be set: the signal then ends the process by itself.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Waits for the user to ask the program to end.
#[cfg(not(unix))]
pub(crate) async fn requested() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}
