//! The operator's client of the region.

use crate::cloud::Cloud;
use crate::error::Error;
use crate::process;
use base::config::Address;
use contract::link;
use contract::operator_client::OperatorClient;
use contract::trust::{Credentials, Identity, Role};
use std::future::Future;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Response, Status};

/// How long the region has to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// Asks the region one thing.
pub fn ask<Answer, Asking>(
    cloud: &Cloud,
    ask: impl FnOnce(OperatorClient<Channel>) -> Asking,
) -> Result<Answer, Error>
where
    Asking: Future<Output = Result<Response<Answer>, Status>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Process { what: "start a runtime".into(), source })?;
    let credentials = Credentials::open(&cloud.operator_dir())?;
    let region = Identity::new(Role::Region, &cloud.topology.region);
    let address = Address::File(cloud.operator_address_file());
    let answer = runtime.block_on(async {
        let asked = async {
            let channel = link::dial(&address, &credentials, &region).await.map_err(|why| {
                Error::Silent(format!(
                    "the region does not answer ({why}); `nephos status` shows whether it runs, and \
                     `nephos start region` starts it"
                ))
            })?;
            let answer = ask(OperatorClient::new(channel)).await;
            answer.map(Response::into_inner).map_err(|status| Error::Region(status.message().to_owned()))
        };
        let late = |_| Error::Silent(format!("the region did not answer within {} s", ANSWER_WAIT.as_secs()));
        tokio::time::timeout(ANSWER_WAIT, asked).await.map_err(late)?
    });
    match answer {
        Err(Error::Silent(_)) if process::supervisor(cloud).is_none() => Err(Error::NotUp(cloud.dir.clone())),
        other => other,
    }
}
