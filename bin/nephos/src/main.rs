//! `nephos`: every role of the cloud, the supervisor that runs a whole cloud on one machine, and the operator's
//! command line, in one binary.
//!
//! Exit codes: 0 done; 1 failed, and standard error says why and what to do; 2 the command line is wrong; 3 the
//! cloud is not up.

/// Prints a line. A reader that has gone away (`| head`) is no reason to stop, least of all for the supervisor.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($argument)*);
    }};
}

mod account;
mod arguments;
mod cloud;
mod commands;
mod config;
mod debian;
mod down;
mod error;
mod explain;
mod images;
mod log;
mod operator;
mod process;
mod roles;
mod shell;
mod status;
mod store;
mod supervisor;

use arguments::{Arguments, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Region(role) => roles::region(&role.config),
        Command::Zone(role) => roles::zone(&role.config),
        Command::Cell(role) => roles::cell(&role.config),
        Command::Host(role) => roles::host(&role.config),
        Command::Up(up) => supervisor::up(&up),
        Command::Down(at) => down::down(&at),
        Command::Status(at) => status::status(&at),
        Command::Env(at) => commands::env(&at),
        Command::Kill(target) => commands::kill(&target),
        Command::Start(target) => commands::start(&target),
        Command::Account(account) => account::account(&account),
        Command::Explain(explain) => explain::explain(&explain),
        Command::Store(store) => store::store(&store),
        Command::Image(image) => images::image(&image.command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nephos: {}", base::error::chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}
