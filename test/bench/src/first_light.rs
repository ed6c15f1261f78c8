//! `first-light`: what one command and one request cost. The parts are in files by noun.

mod api;
mod footprint;
mod launch;
mod start;

use crate::client::{Client, Question};
use crate::{Part, Place};
use anyhow::{Result, bail};
use std::fs;
use std::time::{Duration, Instant};

/// The parts.
pub const PARTS: &[Part] = &[
    Part { name: "start", measure: start::measure },
    Part { name: "footprint", measure: footprint::measure },
    Part { name: "api", measure: api::measure },
    Part { name: "launch", measure: launch::measure },
    Part { name: "guest", measure: launch::measure_guest },
];

/// A cloud of simulated hosts that hold many small VMs, for accounts without a limit that matters.
const ROOMY: [&str; 8] = [
    "--vmm",
    "simulated",
    "--vcpus-per-host",
    "4096",
    "--memory-per-host",
    "16384",
    "--vcpus-per-account",
    "1000000",
];

/// RunInstances of `count` of the smallest instances.
fn run_instances(place: &Place, count: usize) -> Result<Question> {
    let image = image(place)?;
    let parameters = format!("&ImageId={image}&InstanceType=t3.nano&MinCount={count}&MaxCount={count}");
    Ok(Question::ec2("RunInstances", &parameters))
}

/// The default image's id, which the peer takes too: it knows no images, and no names of any.
fn image(place: &Place) -> Result<String> {
    for image in fs::read_dir(&place.images)? {
        let image = image?;
        let description = fs::read_to_string(image.path().join("image.toml")).unwrap_or_default();
        if description.lines().any(|line| line == "name = \"nephos-linux\"") {
            return Ok(image.file_name().to_string_lossy().into_owned());
        }
    }
    bail!("there is no image nephos-linux in {}", place.images.display())
}

/// Ids in one TerminateInstances.
const TERMINATE_MAX: usize = 100;
const TERMINATE_WAIT: Duration = Duration::from_secs(120);

/// Terminates an account's instances and waits until none is left.
fn terminate(client: &mut Client, instances: &[String]) -> Result<()> {
    for some in instances.chunks(TERMINATE_MAX) {
        let ids = some.iter().enumerate();
        let ids: String = ids.map(|(index, id)| format!("&InstanceId.{}={id}", index + 1)).collect();
        client.ask(&Question::ec2("TerminateInstances", &ids))?;
    }
    let states = ["pending", "running", "shutting-down", "stopping", "stopped"];
    let states: String = (1..).zip(states).map(|(n, state)| format!("&Filter.1.Value.{n}={state}")).collect();
    let left = format!("&Filter.1.Name=instance-state-name{states}&MaxResults=5");
    let began = Instant::now();
    while client.ask(&Question::ec2("DescribeInstances", &left))?.element("instanceId").is_some() {
        if began.elapsed() > TERMINATE_WAIT {
            bail!("instances are not terminated after {} s", TERMINATE_WAIT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
