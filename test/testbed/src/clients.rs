//! The real clients: the aws CLI, and boto3 in Python processes that are kept for the next script.
//!
//! Importing boto3 costs half a second of CPU, so a Python process serves many scripts, of any cloud, one at a time;
//! a script shares no client and no variable with another cloud's. The processes end with the test's process, which
//! holds the other end of their input.

use crate::environment;
use crate::wait::LONG;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};

/// An error that AWS's client raised for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For example `InvalidAMIID.NotFound`.
    pub code: String,
    /// For people.
    pub message: String,
    /// HTTP's.
    pub status: u64,
}

/// What became of a script.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It returned.
    Value(Value),
    /// AWS's client raised an error for an answer.
    Refused(Refusal),
    /// Anything else: a traceback.
    Failed(String),
}

/// Idle Python processes.
static IDLE: Mutex<Vec<Python>> = Mutex::new(Vec::new());

/// Runs the body of a Python function, see `python/worker.py`, with the cloud's environment.
pub(crate) fn python(script: &str, arguments: &Value, environment: &[(String, String)]) -> Outcome {
    let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut python = idle.unwrap_or_else(Python::start);
    let environment: serde_json::Map<String, Value> =
        environment.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let answer = python.ask(&json!({ "script": script, "args": arguments, "environment": environment }));
    IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(python);
    if let Some(refused) = answer.get("refused") {
        let text = |name: &str| refused[name].as_str().unwrap_or_default().to_owned();
        let status = refused["status"].as_u64().unwrap_or(0);
        return Outcome::Refused(Refusal { code: text("code"), message: text("message"), status });
    }
    match (answer.get("value"), answer["failed"].as_str()) {
        (Some(value), _) => Outcome::Value(value.clone()),
        (None, why) => Outcome::Failed(why.unwrap_or("the Python process answered nonsense").to_owned()),
    }
}

struct Python {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

impl Python {
    fn start() -> Python {
        let mut command = isolated(&environment::client("python"));
        // The sources stay as they are.
        command.env("PYTHONDONTWRITEBYTECODE", "1").arg(environment::python_file("worker.py"));
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python can be started");
        let input = child.stdin.take().expect("its input is a pipe");
        let output = child.stdout.take().expect("its output is a pipe");
        let (sender, answers) = channel();
        // Ends with the process's output.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Python { child, input, answers }
    }

    fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.input, "{question}").expect("the Python process takes a script");
        let line = self.answers.recv_timeout(2 * LONG);
        let line = line.unwrap_or_else(|why| panic!("a script has no end ({why}): {question}"));
        serde_json::from_str(&line).unwrap_or_else(|why| panic!("{line} is no JSON: {why}"))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that sees nothing of the tester's own AWS settings or proxies.
pub(crate) fn isolated(program: &std::path::Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into()));
    for (name, value) in [
        ("LC_ALL", "C.UTF-8"),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_PAGER", ""),
    ] {
        command.env(name, value);
    }
    command
}
