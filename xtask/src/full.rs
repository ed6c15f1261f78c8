//! `cargo xtask full`: all that is too long for every change. Its result is a page that is committed, `docs/full.md`.
//!
//! Each part is a command of its own that anybody can run alone; here they run one after the other, a failed one
//! does not stop the next, and the page says of each what it was, how long it took and what it counted.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::progress::{headline, line};
use crate::tree::Tree;
use crate::{cargo, fuzz, setup, test};

/// How much of the long parts to do.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// For each fuzz target.
    pub fuzz_seconds: u64,
    /// For the simulator.
    pub seeds: u64,
}

/// One command, and which lines of what it says belong on the page.
struct Part {
    name: String,
    command: Command,
    kept: fn(&str) -> bool,
}

/// Runs every part and writes the page; fails if one of them has failed.
pub fn run(tree: &Tree, extent: Extent) -> Result<()> {
    setup::run(tree)?;
    let folder = tree.target.join("full");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut page = head(tree)?;
    let mut failed = Vec::new();
    for mut part in parts(tree, extent)? {
        headline(&part.name);
        let typed = line(&part.command).replace(&format!("{}/", tree.root.display()), "");
        let began = Instant::now();
        let log = folder.join(format!("{}.log", part.name.replace([' ', '/'], "-")));
        let (passed, kept) = listen(&mut part, &File::create(&log)?)?;
        let seconds = began.elapsed().as_secs();
        let verdict = if passed { "passed" } else { "**failed**" };
        writeln!(page, "\n## {}: {verdict} in {seconds} s\n\n`{typed}`", part.name)?;
        if !kept.is_empty() {
            writeln!(page, "\n```text\n{}\n```", kept.join("\n"))?;
        }
        if !passed {
            failed.push(format!("{} (see {})", part.name, log.display()));
        }
    }
    let path = tree.root.join("docs/full.md");
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("==> written to {}", path.display());
    match failed.is_empty() {
        true => Ok(()),
        false => bail!("failed: {}", failed.join(", ")),
    }
}

/// What was run, on which commit and machine.
fn head(tree: &Tree) -> Result<String> {
    let said = |program: &str, arguments: &[&str]| -> Result<String> {
        let output = Command::new(program).args(arguments).current_dir(&tree.root).output();
        let output = output.with_context(|| format!("cannot run {program}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = if said("git", &["status", "--porcelain"])?.is_empty() { "" } else { ", with changes" };
    let commit = said("git", &["rev-parse", "--short=10", "HEAD"])?;
    let date = said("date", &["--utc", "+%Y-%m-%d %H:%M UTC"])?;
    let kernel = said("uname", &["--kernel-release"])?;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    Ok(format!(
        "# The last full run\n\nWritten by `cargo xtask full` on {date}, at commit {commit}{changed}, on {cores} cores \
         under Linux {kernel}.\nWhat each number promises is in SPEC.md.\n"
    ))
}

fn parts(tree: &Tree, extent: Extent) -> Result<Vec<Part>> {
    let itself = |arguments: &[&str]| -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).current_dir(&tree.root);
        Ok(command)
    };
    let part = |name: &str, command, kept| Part { name: name.to_owned(), command, kept };
    let mut parts = vec![part("ci", itself(&["ci"])?, |line| line.starts_with("test result:"))];
    let mut soak = cargo::cargo(tree, &["test", "--package", "sim", "seeds", "--", "--nocapture"]);
    soak.env("NEPHOS_SIM_SEEDS", extent.seeds.to_string());
    parts.push(part(&format!("simulator, {} seeds", extent.seeds), soak, |line| line.contains("seeds")));
    let mut long =
        cargo::cargo(tree, &["test", "--workspace", "--no-fail-fast", "--", "--ignored", "--nocapture"]);
    test::environment(tree, &mut long)?;
    parts.push(part("long tests", long, |line| line.starts_with("full: ") || line.starts_with("test ")));
    for target in fuzz::targets(tree)? {
        let seconds = extent.fuzz_seconds.to_string();
        let command = itself(&["fuzz", &target, "--seconds", &seconds])?;
        parts.push(part(&format!("fuzzing {target}"), command, |line| {
            line.starts_with("stat::number_of_executed_units") || line.contains("ERROR")
        }));
    }
    // The columns of a table begin with two blanks.
    parts.push(part("benchmarks", itself(&["bench"])?, |line| {
        line.starts_with("  ") || line.starts_with("machine:") || line.starts_with("error")
    }));
    Ok(parts)
}

/// Runs a part to its end: all that it says goes to the terminal and to the log, what is kept is given back.
fn listen(part: &mut Part, mut log: &File) -> Result<(bool, Vec<String>)> {
    let name = line(&part.command);
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    part.command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = part.command.spawn().with_context(|| format!("cannot run {name}"))?;
    // Ours of its ends are closed, so that the pipe ends with the child.
    part.command = Command::new("true");
    let mut kept = Vec::new();
    for words in BufReader::new(reader).split(b'\n') {
        let words = words.with_context(|| format!("cannot read what {name} says"))?;
        let words = String::from_utf8_lossy(&words);
        eprintln!("{words}");
        writeln!(log, "{words}")?;
        if (part.kept)(&words) {
            kept.push(words.trim_end().to_owned());
        }
    }
    Ok((child.wait()?.success(), kept))
}
