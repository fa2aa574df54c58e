//! The talkbox command.
