//! The failure of a command: a message for people and an exit code.

/// The reason why a command did not do what was asked, which decides the exit code.
#[derive(Debug)]
pub(super) enum CommandError {
    /// The recipe or the checkpoint is at fault.
    Input(String),
    /// The recipe or the checkpoint is at fault, and everything has been reported already.
    Reported,
    /// The verdict of a proof, which has been reported already, is none of success; the exit code tells it.
    Unproven(u8),
    /// The run failed: files, memory, the machine.
    Run(String),
    /// A signal such as Ctrl-C ended the run; the exit code names the signal.
    Interrupted(String, u8),
}

impl CommandError {
    /// Puts the blame on the recipe or the checkpoint.
    pub(super) fn input(error: &dyn std::error::Error) -> Self {
        Self::Input(with_sources(error))
    }

    /// Puts the blame on the run.
    pub(super) fn run(error: &dyn std::error::Error) -> Self {
        Self::Run(with_sources(error))
    }

    /// Adds hints below the message, one line each.
    pub(super) fn with_help(self, help: &[String]) -> Self {
        let lines: String = help.iter().map(|line| format!("\n  = help: {line}")).collect();
        match self {
            Self::Input(text) => Self::Input(text + &lines),
            Self::Run(text) => Self::Run(text + &lines),
            Self::Interrupted(text, code) => Self::Interrupted(text + &lines, code),
            Self::Reported | Self::Unproven(_) => self,
        }
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Input(_) | Self::Reported => 1,
            Self::Run(_) => 2,
            Self::Interrupted(_, code) | Self::Unproven(code) => *code,
        }
    }
}

/// An error and its causes, one after the other on one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
