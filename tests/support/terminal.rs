//! A terminal to run commands in, of a given width.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Runs a command whose stderr, and stdout if so asked, is a terminal of so many columns; returns what it shows.
pub(crate) fn shown_in_terminal(command: &mut Command, columns: u16, stdout_too: bool) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let side = File::from(open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap());
    tcsetwinsize(&side, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let stdout = if stdout_too { Stdio::from(side.try_clone().unwrap()) } else { Stdio::null() };
    let mut child = command.stdin(Stdio::null()).stdout(stdout).stderr(side).spawn().unwrap();
    // The command holds copies of the terminal's side, which would keep it open.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut shown = Vec::new();
    let mut reader = File::from(terminal);
    let mut buffer = [0; 4096];
    // Where nobody is left on the other side, Linux answers with an error.
    while let Ok(read @ 1..) = reader.read(&mut buffer) {
        shown.extend_from_slice(&buffer[..read]);
    }
    child.wait().unwrap();
    String::from_utf8(shown).unwrap().replace("\r\n", "\n")
}
