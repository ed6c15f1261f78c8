//! CreateInternetGateway, DeleteInternetGateway, DescribeInternetGateways, AttachInternetGateway, DetachInternetGateway.

use super::filter::Filtered;
use super::resource::{self, Listing, Seen};
use super::{Api, parse, tag};
use crate::internet_gateway::Change;
use crate::internet_gateway::record::InternetGatewayRecord;
use crate::network::NetworkChange;
use crate::tag::record::TagRecord;
use crate::vpc::record::VpcRecord;
use aws::ec2::*;
use aws::{ApiError, Caller};

/// CreateInternetGateway.
pub async fn gateway_create(
    api: &Api,
    caller: &Caller,
    input: CreateInternetGatewayRequest,
) -> Result<CreateInternetGatewayResponse, ApiError> {
    let tags = tag::specified(&input.tag_specifications, "internet-gateway")?;
    parse::dry_run(input.dry_run)?;
    let answer = change(api, caller, Change::Create(tags)).await?;
    let record = resource::made::<InternetGatewayRecord>(&answer)?;
    let internet_gateway = resource::told(api, caller, &*record, |seen| seen.shape())?;
    Ok(CreateInternetGatewayResponse { internet_gateway })
}

async fn change(api: &Api, caller: &Caller, change: Change) -> Result<crate::request::Answer, ApiError> {
    resource::change(api, caller, NetworkChange::InternetGateway(change), None).await
}

/// DeleteInternetGateway.
pub async fn gateway_delete(
    api: &Api,
    caller: &Caller,
    input: DeleteInternetGatewayRequest,
) -> Result<Return, ApiError> {
    parse::resource_id::<InternetGatewayRecord>(&input.internet_gateway_id)?;
    parse::dry_run(input.dry_run)?;
    change(api, caller, Change::Delete(input.internet_gateway_id)).await?;
    Ok(Return::TRUE)
}

/// AttachInternetGateway.
pub async fn gateway_attach(
    api: &Api,
    caller: &Caller,
    input: AttachInternetGatewayRequest,
) -> Result<Return, ApiError> {
    parse::resource_id::<InternetGatewayRecord>(&input.internet_gateway_id)?;
    parse::resource_id::<VpcRecord>(&input.vpc_id)?;
    parse::dry_run(input.dry_run)?;
    change(api, caller, Change::Attach { gateway: input.internet_gateway_id, vpc: input.vpc_id }).await?;
    Ok(Return::TRUE)
}

/// DetachInternetGateway.
pub async fn gateway_detach(
    api: &Api,
    caller: &Caller,
    input: DetachInternetGatewayRequest,
) -> Result<Return, ApiError> {
    parse::resource_id::<InternetGatewayRecord>(&input.internet_gateway_id)?;
    parse::resource_id::<VpcRecord>(&input.vpc_id)?;
    parse::dry_run(input.dry_run)?;
    change(api, caller, Change::Detach { gateway: input.internet_gateway_id, vpc: input.vpc_id }).await?;
    Ok(Return::TRUE)
}

/// DescribeInternetGateways.
pub fn gateways_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeInternetGatewaysRequest,
) -> Result<DescribeInternetGatewaysResponse, ApiError> {
    let listing = Listing {
        operation: "DescribeInternetGateways",
        parameter: "internetGatewayIds",
        ids: &input.internet_gateway_ids,
        filters: &input.filters,
        max_results: input.max_results,
        next_token: input.next_token,
        dry_run: input.dry_run,
    };
    let (internet_gateways, next_token) =
        resource::list(api, caller, listing, |seen: Seen<'_, InternetGatewayRecord>| seen.shape())?;
    Ok(DescribeInternetGatewaysResponse { internet_gateways, next_token })
}

impl Seen<'_, InternetGatewayRecord> {
    fn shape(&self) -> InternetGateway {
        let vpc = Some(&self.record.vpc_id).filter(|vpc| !vpc.is_empty());
        let attachment =
            vpc.map(|vpc| InternetGatewayAttachment { state: "available".to_owned(), vpc_id: vpc.clone() });
        InternetGateway {
            internet_gateway_id: self.record.internet_gateway_id.clone(),
            attachments: attachment.into_iter().collect(),
            owner_id: self.owner_id(),
            tags: tag::shapes(&self.record.tags),
        }
    }
}

impl Filtered for Seen<'_, InternetGatewayRecord> {
    const NAMES: &'static [&'static str] =
        &["attachment.state", "attachment.vpc-id", "internet-gateway-id", "owner-id"];
    const TAGGED: bool = true;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        let attached = !self.record.vpc_id.is_empty();
        Some(match name {
            "attachment.state" => attached && is("available"),
            "attachment.vpc-id" => attached && is(&self.record.vpc_id),
            "internet-gateway-id" => is(&self.record.internet_gateway_id),
            "owner-id" => is(&self.owner_id()),
            _ => return None,
        })
    }

    fn tags(&self) -> &[TagRecord] {
        &self.record.tags
    }
}
