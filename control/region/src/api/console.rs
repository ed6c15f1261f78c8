//! GetConsoleOutput.

use super::{Api, instance, parse};
use crate::instance::state::Stage;
use aws::ec2::*;
use aws::shape::Blob;
use aws::{ApiError, Caller, codes};
use base::clock::Timestamp;

/// GetConsoleOutput: what the guest has written to its serial port, read from its host now (`Latest` changes
/// nothing). No output, if nothing was written or no host holds any.
pub async fn output_get(
    api: &Api,
    caller: &Caller,
    input: GetConsoleOutputRequest,
) -> Result<GetConsoleOutputResponse, ApiError> {
    let id = parse::instance_id(&input.instance_id)?;
    parse::dry_run(input.dry_run)?;
    let on_a_host = api.read(caller, |account| {
        let record = instance::record_find(account, id)?;
        Ok(!record.host_id.is_empty() && record.stage() != Stage::Terminated)
    })?;
    let nothing =
        GetConsoleOutputResponse { instance_id: id.to_string(), ..GetConsoleOutputResponse::default() };
    if !on_a_host {
        return Ok(nothing);
    }
    let Some(data) = api.asker.console(id).await else {
        let message = "The instance's host does not answer now; its console cannot be read.";
        return Err(ApiError::new(codes::UNAVAILABLE, message));
    };
    if data.unknown || data.data.is_empty() {
        return Ok(nothing);
    }
    Ok(GetConsoleOutputResponse {
        timestamp: (data.written_unix_ms > 0).then(|| Timestamp::from_unix_ms(data.written_unix_ms)),
        output: Some(Blob(data.data)),
        ..nothing
    })
}
