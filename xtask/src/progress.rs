//! Long steps as a person sees them: a name, the seconds that go by, and the tools' own words only on failure.
//!
//! Called by every command that runs tools. What the tools say goes to a log under target/setup/.

use std::fs::{self, File};
use std::io::{IsTerminal, Write, stderr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::tree::Tree;

/// How much of a log is shown when a tool fails.
const LOG_LINES_SHOWN: usize = 30;

/// Does `work`, showing `name` and the seconds it takes; the tools' output goes to `target/setup/{file}.log`.
pub fn step<T>(tree: &Tree, file: &str, name: &str, work: impl FnOnce(&Log) -> Result<T>) -> Result<T> {
    let log = Log::create(tree, file)?;
    let began = Instant::now();
    let (finish, finished) = mpsc::channel::<()>();
    let shown = name.to_owned();
    let clock = thread::spawn(move || tick(&shown, began, &finished));
    let outcome = work(&log);
    drop(finish);
    // The clock only prints: that it panicked changes nothing about the work.
    let _ = clock.join();
    let seconds = began.elapsed().as_secs_f64();
    let clear = if stderr().is_terminal() { "\r\x1b[K" } else { "" };
    let verdict = if outcome.is_ok() { "done" } else { "FAILED" };
    eprintln!("{clear}==> {name}: {verdict} in {seconds:.1} s");
    outcome
}

/// Announces a step whose tool shows its own progress.
pub fn headline(name: &str) {
    eprintln!("==> {name}");
}

fn tick(name: &str, began: Instant, finished: &mpsc::Receiver<()>) {
    let terminal = stderr().is_terminal();
    let period = Duration::from_secs(if terminal { 1 } else { 30 });
    if !terminal {
        eprintln!("==> {name} ...");
    }
    loop {
        let seconds = began.elapsed().as_secs();
        if terminal {
            eprint!("\r\x1b[K==> {name} ... {seconds} s");
            let _ = stderr().flush();
        } else if seconds > 0 {
            eprintln!("==> {name} ... {seconds} s");
        }
        if finished.recv_timeout(period) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Where the tools of one step write.
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    fn create(tree: &Tree, name: &str) -> Result<Log> {
        fs::create_dir_all(tree.setup())?;
        let path = tree.setup().join(format!("{name}.log"));
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Log { path, file })
    }

    /// Runs a tool to its end, its words in the log. Fails with the log's end when the tool does.
    pub fn run(&self, command: &mut Command) -> Result<()> {
        let line = line(command);
        writeln!(&self.file, "$ {line}")?;
        let status = command
            .stdin(Stdio::null())
            .stdout(self.file.try_clone()?)
            .stderr(self.file.try_clone()?)
            .status()
            .with_context(|| format!("cannot run {line}"))?;
        if !status.success() {
            bail!("{line}: {status}\n{}\n(all of it: {})", self.tail(), self.path.display());
        }
        Ok(())
    }

    /// Like [`Log::run`], and gives what the tool wrote to its standard output.
    pub fn output(&self, command: &mut Command) -> Result<String> {
        let line = line(command);
        writeln!(&self.file, "$ {line}")?;
        let output = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(self.file.try_clone()?)
            .output()
            .with_context(|| format!("cannot run {line}"))?;
        (&self.file).write_all(&output.stdout)?;
        if !output.status.success() {
            bail!("{line}: {}\n{}\n(all of it: {})", output.status, self.tail(), self.path.display());
        }
        String::from_utf8(output.stdout).with_context(|| format!("{line} wrote what is not UTF-8"))
    }

    fn tail(&self) -> String {
        let text = fs::read(&self.path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let hidden = lines.len().saturating_sub(LOG_LINES_SHOWN);
        lines[hidden..].iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
    }
}

/// A command as one would type it, near enough to find it again.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
