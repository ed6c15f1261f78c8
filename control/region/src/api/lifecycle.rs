//! StartInstances, StopInstances, RebootInstances and TerminateInstances.

use super::{Api, errors, instance, parse, unexpected};
use crate::request::{Answer as Done, Request};
use aws::ec2::*;
use aws::{ApiError, Caller};

/// StartInstances.
pub async fn instances_start(
    api: &Api,
    caller: &Caller,
    input: StartInstancesRequest,
) -> Result<InstanceStateChanges, ApiError> {
    let ids = parse::instance_ids(&input.instance_ids)?;
    parse::dry_run(input.dry_run)?;
    state_changes(api.change(caller, Request::Start(ids)).await?)
}

/// StopInstances.
pub async fn instances_stop(
    api: &Api,
    caller: &Caller,
    input: StopInstancesRequest,
) -> Result<InstanceStateChanges, ApiError> {
    let instances = parse::instance_ids(&input.instance_ids)?;
    if input.hibernate == Some(true) {
        return Err(errors::unsupported("Instances cannot be hibernated yet."));
    }
    parse::dry_run(input.dry_run)?;
    let force = input.force.unwrap_or(false);
    state_changes(api.change(caller, Request::Stop { instances, force }).await?)
}

/// RebootInstances.
pub async fn instances_reboot(
    api: &Api,
    caller: &Caller,
    input: RebootInstancesRequest,
) -> Result<Return, ApiError> {
    let ids = parse::instance_ids(&input.instance_ids)?;
    parse::dry_run(input.dry_run)?;
    api.change(caller, Request::Reboot(ids)).await?;
    Ok(Return::TRUE)
}

/// TerminateInstances.
pub async fn instances_terminate(
    api: &Api,
    caller: &Caller,
    input: TerminateInstancesRequest,
) -> Result<InstanceStateChanges, ApiError> {
    let ids = parse::instance_ids(&input.instance_ids)?;
    parse::dry_run(input.dry_run)?;
    state_changes(api.change(caller, Request::Terminate(ids)).await?)
}

fn state_changes(answer: Done) -> Result<InstanceStateChanges, ApiError> {
    let Done::States(changes) = answer else { return Err(unexpected(&answer)) };
    let instances = changes.iter().map(|change| InstanceStateChange {
        instance_id: change.instance.to_string(),
        current_state: instance::state_shape(change.after),
        previous_state: instance::state_shape(change.before),
    });
    Ok(InstanceStateChanges { instances: instances.collect() })
}
