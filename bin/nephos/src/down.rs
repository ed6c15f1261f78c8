//! How a cloud goes down: the control plane first, so that it does not take the guests' ends for their own doing;
//! then the hosts, each of which powers its guests off. A failure on the way stops nothing else; at the end
//! everything is looked for that should be gone, however it was started.

use crate::arguments::At;
use crate::cloud::{Cloud, Member};
use crate::error::Error;
use crate::process::{self, Guest, Process};
use crate::supervisor::{self, Supervisor};
use base::error::chain;
use contract::trust::Role;
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

/// How long the control plane has to end when asked, all of it together.
const CONTROL_WAIT: Duration = Duration::from_secs(10);
/// How long host agents have to come up where guests are left without one.
const AGENTS_WAIT: Duration = Duration::from_secs(10);
/// How long hosts have beyond their guests' own time.
const HOSTS_GRACE: Duration = Duration::from_secs(30);
/// How long something killed takes to be gone.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// How long another `nephos` may hold the lock that is neither supervisor nor about to be.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// `nephos down`
pub fn down(at: &At) -> Result<(), Error> {
    let cloud = Cloud::open(at)?;
    let bound = hosts_wait(&cloud) + CONTROL_WAIT * 2 + AGENTS_WAIT + KILL_WAIT;
    let began = Instant::now();
    let mut asked = None;
    let _lock = loop {
        if asked.is_none()
            && let Some(process) = process::supervisor(&cloud)
        {
            say!(
                "Stopping the cloud in {}: guests are asked to shut down, which takes up to {} s ...",
                cloud.dir.display(),
                bound.as_secs()
            );
            process.signal(Signal::TERM);
            asked = Some(process);
        }
        let gone = asked.is_some_and(|process| !process.alive());
        if let Some(lock) = supervisor::lock(&cloud.dir)? {
            break lock;
        }
        if gone {
            say!("The cloud in {} went down, and another `nephos up` starts it again.", cloud.dir.display());
            return Ok(());
        }
        let patience = if asked.is_some() { bound } else { LOCK_WAIT };
        if began.elapsed() > patience {
            return Err(Error::Said(match asked {
                Some(process) => format!(
                    "the supervisor (pid {}) still stops guests after {} s; its log is {}",
                    process.pid(),
                    patience.as_secs(),
                    cloud.run().join("supervisor.log").display()
                ),
                None => "another `nephos` is just starting, stopping or moving this cloud; try again".into(),
            }));
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let mut supervisor = Supervisor::new(cloud)?;
    let left = supervisor.left();
    if left.is_empty() {
        supervisor.forget();
        let already = if asked.is_none() { " already" } else { "" };
        say!("The cloud in {} is down{already}.", supervisor.cloud.dir.display());
    } else {
        if asked.is_some() {
            eprintln!("nephos: the supervisor has left {}", left.join(", "));
        }
        supervisor.stop()?;
    }
    say!("`nephos up` starts it again, with the guests that were running.");
    Ok(())
}

fn hosts_wait(cloud: &Cloud) -> Duration {
    Duration::from_secs(cloud.topology.shutdown_timeout) + HOSTS_GRACE
}

impl Supervisor {
    /// Stops all. The error names what is left.
    pub fn stop(&mut self) -> Result<(), Error> {
        let _ = fs::remove_file(self.cloud.run().join("ready"));
        control_end(&self.cloud, &self.of_role(|role| role != Role::Host));
        let hosts = self.of_role(|role| role == Role::Host);
        let guests = process::guests(&self.cloud);
        say!(
            "The control plane has stopped; {} hosts power {} guests off, which takes up to {} s ...",
            hosts.len(),
            guests.len(),
            hosts_wait(&self.cloud).as_secs()
        );
        let _ = std::io::stdout().flush();
        let agents = self.agents_ensure(&hosts, &guests);
        agents.iter().for_each(|agent| agent.signal(Signal::POWER));
        end(&agents, hosts_wait(&self.cloud));
        for charge in self.charges.values_mut() {
            // They have ended: this only collects them.
            let _ = charge.child.as_mut().map(|child| child.try_wait());
        }
        let left = self.left();
        if !left.is_empty() {
            return Err(Error::Said(format!(
                "the cloud is not down: there is still {}; `nephos down` tries again, and the logs are in {}",
                left.join(", "),
                self.cloud.run().display()
            )));
        }
        self.forget();
        say!("The cloud is down.");
        Ok(())
    }

    /// The agents that listen for the word that their machine goes down (SIGPWR). A host with guests whose agent is
    /// dead gets one for this.
    fn agents_ensure(&mut self, hosts: &[Member], guests: &[Guest]) -> Vec<Process> {
        let with_guests: BTreeSet<&str> = guests.iter().map(|guest| guest.host.as_str()).collect();
        let running = process::running(&self.cloud, hosts);
        let mut agents: Vec<Process> = running.iter().map(|(_, process)| *process).collect();
        let dead = hosts.iter().filter(|host| !running.iter().any(|(member, _)| member == *host));
        for host in dead.filter(|host| with_guests.contains(host.identity.instance.as_str())) {
            match supervisor::spawn(&self.cloud, host) {
                Ok(child) => {
                    agents.extend(Process::of_pid(child.id()));
                    self.charges.entry(host.clone()).or_default().child = Some(child);
                }
                Err(error) => eprintln!("nephos: {}", chain(&error)),
            }
        }
        // Until an agent listens for the signal it would only die of it.
        let began = Instant::now();
        let deaf = |agent: &&Process| agent.alive() && !agent.signal_mask("SigCgt", Signal::POWER);
        while agents.iter().any(|agent| deaf(&agent)) && began.elapsed() < AGENTS_WAIT {
            std::thread::sleep(Duration::from_millis(10));
        }
        agents
    }

    /// A start that failed: ends what this supervisor has started, but no host that has guests, and nothing that
    /// ran before. Says in a sentence what is left.
    pub fn give_up(&mut self) -> String {
        let guests = process::guests(&self.cloud);
        let busy = |member: &Member| guests.iter().any(|guest| guest.host == member.identity.instance);
        let mut own = Vec::new();
        for (member, charge) in &self.charges {
            if let Some(child) = charge.child.as_ref().filter(|_| !busy(member)) {
                own.extend(Process::of_pid(child.id()));
            }
        }
        own.iter().for_each(|process| process.signal(Signal::TERM));
        end(&own, CONTROL_WAIT);
        let _ = fs::remove_file(self.cloud.run().join("supervisor.pid"));
        let left = self.left();
        match left.is_empty() {
            true => String::new(),
            false => format!("Left as they are: {} (`nephos down` stops them). ", left.join(", ")),
        }
    }

    /// What still runs of the cloud, for people.
    fn left(&self) -> Vec<String> {
        let running = process::running(&self.cloud, &self.members);
        let named =
            |(member, process): (Member, Process)| format!("{} (pid {})", member.label(), process.pid());
        let mut left: Vec<String> = running.into_iter().map(named).collect();
        left.extend(process::guests(&self.cloud).into_iter().map(|guest| guest.label));
        left
    }

    /// Removes what says where processes are.
    fn forget(&self) {
        processes_forget(&self.cloud, &self.members);
        let _ = fs::remove_file(self.cloud.run().join("supervisor.pid"));
    }

    fn of_role(&self, wanted: impl Fn(Role) -> bool) -> Vec<Member> {
        self.members.iter().filter(|member| wanted(member.identity.role)).cloned().collect()
    }
}

/// Ends these processes of the control plane; the store last, so that those who lead can say that they do no longer.
pub fn control_end(cloud: &Cloud, members: &[Member]) {
    for last in [false, true] {
        let some = members.iter().filter(|member| (member.identity.role == Role::Store) == last);
        let running = process::running(cloud, &some.cloned().collect::<Vec<_>>());
        let processes: Vec<Process> = running.into_iter().map(|(_, process)| process).collect();
        processes.iter().for_each(|process| process.signal(Signal::TERM));
        end(&processes, CONTROL_WAIT);
    }
}

/// Removes what says where the members' processes are.
pub fn processes_forget(cloud: &Cloud, members: &[Member]) {
    for member in members {
        for suffix in ["pid", "standing"] {
            let _ = fs::remove_file(cloud.run_file(member, suffix));
        }
        let _ = fs::remove_file(cloud.address_file(&member.identity));
        if member.identity.role == Role::Region {
            let _ = fs::remove_file(cloud.api_address_file());
            let _ = fs::remove_file(cloud.operator_address_file());
        }
    }
}

/// Waits for processes to end, all of them together; kills those that do not.
fn end(processes: &[Process], wait: Duration) {
    let all_end = |wait: Duration| {
        let began = Instant::now();
        // A child stays a zombie until it is waited for, and `alive` knows that.
        while processes.iter().any(|process| process.alive()) && began.elapsed() < wait {
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    all_end(wait);
    for process in processes.iter().filter(|process| process.alive()) {
        eprintln!("nephos: pid {} does not end within {} s; killing it", process.pid(), wait.as_secs());
        process.signal(Signal::KILL);
    }
    all_end(KILL_WAIT);
}
