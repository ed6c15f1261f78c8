//! A cloud of our own in a directory of its own, started and stopped with the commands that users have.

use crate::Place;
use crate::client::{Client, Keys, Question};
use crate::process::Process;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a cloud may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(90);
const POLL_EVERY: Duration = Duration::from_millis(2);

/// A directory for a cloud, on a disk, where users without rights can pass: guests are such.
pub fn directory() -> Result<TempDir> {
    // Not /tmp, which may be memory: then nothing durable would be measured.
    let directory = tempfile::Builder::new().prefix("nephos-bench-").tempdir_in("/var/tmp")?;
    fs::set_permissions(directory.path(), Permissions::from_mode(0o711))?;
    Ok(directory)
}

/// A port that is free now.
pub fn port_free() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A cloud that is up; it goes down when this is dropped.
pub struct Cloud {
    nephos: PathBuf,
    directory: PathBuf,
    /// `nephos up`, while it has not been found ended.
    up: Child,
    /// Of the API.
    pub address: SocketAddr,
    /// Of the default account.
    pub keys: Keys,
    /// From the start of `nephos up` to the first answer of the API.
    pub answered_after: Duration,
}

impl Cloud {
    /// Starts a new cloud and waits until instances can be launched in it.
    pub fn ready(place: &Place, directory: &Path, arguments: &[&str]) -> Result<Cloud> {
        let cloud = Cloud::up(place, directory, port_free()?, arguments)?;
        cloud.hosts_wait()?;
        Ok(cloud)
    }

    /// Starts a cloud in `directory`, new or not, and waits until it has answered a signed request.
    pub fn up(place: &Place, directory: &Path, port: u16, arguments: &[&str]) -> Result<Cloud> {
        let log_path = directory.join("up.log");
        let log = File::create(&log_path).with_context(|| format!("cannot write {}", log_path.display()))?;
        let directory = directory.join("cloud");
        let mut command = Command::new(&place.nephos);
        command.arg("up").arg("--dir").arg(&directory).args(["--port", &port.to_string()]);
        command.arg("--images").arg(&place.images).args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let began = Instant::now();
        let up = command.spawn().with_context(|| format!("cannot run {}", place.nephos.display()))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let keys = Keys { access_key_id: String::new(), secret_access_key: String::new() };
        let mut cloud = Cloud {
            nephos: place.nephos.clone(),
            directory,
            up,
            address,
            keys,
            answered_after: Duration::ZERO,
        };
        cloud.answer_wait(began).with_context(|| fs::read_to_string(&log_path).unwrap_or_default())?;
        Ok(cloud)
    }

    fn answer_wait(&mut self, began: Instant) -> Result<()> {
        let file = self.directory.join("credentials.json");
        loop {
            if let Some(status) = self.up.try_wait()?.filter(|status| !status.success()) {
                bail!("nephos up ended: {status}");
            }
            let keys = fs::read(&file).ok().and_then(|text| serde_json::from_slice::<Keys>(&text).ok());
            if let Some(keys) = keys {
                let reply = Client::new(self.address, &keys).send(&Question::caller_identity());
                if reply.is_ok_and(|reply| reply.status == 200) {
                    self.answered_after = began.elapsed();
                    self.keys = keys;
                    return Ok(());
                }
            }
            if began.elapsed() > ANSWER_WAIT {
                bail!("the cloud did not answer within {} s", ANSWER_WAIT.as_secs());
            }
            std::thread::sleep(POLL_EVERY);
        }
    }

    /// Waits until the region knows every host to be healthy; before that there is nowhere to launch.
    pub fn hosts_wait(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            let mut command = Command::new(&self.nephos);
            let output = command.args(["status", "--json", "--dir"]).arg(&self.directory).output()?;
            let status: Value = serde_json::from_slice(&output.stdout).context("nephos status")?;
            let each = |value: &Value| value.as_array().cloned().unwrap_or_default();
            let cells: Vec<Value> =
                each(&status["zones"]).iter().flat_map(|zone| each(&zone["cells"])).collect();
            let racks = cells.iter().flat_map(|cell| each(&cell["racks"]));
            let hosts: usize = racks.map(|rack| each(&rack["hosts"]).len()).sum();
            let healthy: u64 =
                cells.iter().filter_map(|cell| cell["capacity"]["hosts_healthy"].as_u64()).sum();
            if hosts as u64 == healthy {
                return Ok(());
            }
            if began.elapsed() > ANSWER_WAIT {
                bail!("{healthy} of {hosts} hosts are healthy after {} s", ANSWER_WAIT.as_secs());
            }
            std::thread::sleep(POLL_EVERY);
        }
    }

    /// A client with the default account's key.
    pub fn client(&self) -> Client {
        Client::new(self.address, &self.keys)
    }

    /// Makes an account.
    pub fn account(&self, name: &str) -> Result<Keys> {
        let mut command = Command::new(&self.nephos);
        let output = command.args(["account", "create", name, "--dir"]).arg(&self.directory).output()?;
        if !output.status.success() {
            bail!("nephos account create: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Makes so many accounts.
    pub fn accounts(&self, count: usize) -> Result<Vec<Keys>> {
        (0..count).map(|number| self.account(&format!("bench-{number}"))).collect()
    }

    /// All processes by name: `region-us-east-1`, `supervisor`...
    pub fn processes(&self) -> Result<BTreeMap<String, Process>> {
        let mut processes = BTreeMap::new();
        for entry in fs::read_dir(self.directory.join("run"))? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "pid") {
                continue;
            }
            let text = fs::read_to_string(&path)?;
            let pid = text.split_ascii_whitespace().next().and_then(|pid| pid.parse().ok());
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let process = pid.map(Process).filter(|process| process.alive());
            processes.insert(name.clone(), process.with_context(|| format!("{name} does not run"))?);
        }
        Ok(processes)
    }

    /// Its processes, those of the control plane apart from the others (hosts and supervisor).
    pub fn planes(&self) -> Result<(Vec<Process>, Vec<Process>)> {
        let of_control = |name: &str| ["region-", "zone-", "cell-"].iter().any(|role| name.starts_with(role));
        let (control, others): (Vec<_>, Vec<_>) =
            self.processes()?.into_iter().partition(|(name, _)| of_control(name));
        let processes =
            |named: Vec<(String, Process)>| named.into_iter().map(|(_, process)| process).collect();
        Ok((processes(control), processes(others)))
    }

    /// Runs another command of `nephos` on it.
    pub fn command(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.nephos);
        let output = command.args(arguments).arg("--dir").arg(&self.directory).output()?;
        if !output.status.success() {
            bail!("nephos {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Stops it and waits for its end.
    pub fn down(mut self) -> Result<()> {
        self.stop()
    }

    fn stop(&mut self) -> Result<()> {
        let mut command = Command::new(&self.nephos);
        let output = command.arg("down").arg("--dir").arg(&self.directory).output()?;
        if !output.status.success() {
            bail!("nephos down: {}", String::from_utf8_lossy(&output.stderr));
        }
        self.up.wait()?;
        Ok(())
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        // After `down` this finds a cloud that is down already.
        if let Err(error) = self.stop() {
            eprintln!("the cloud in {} was not stopped: {error:#}", self.directory.display());
        }
    }
}
