//! Service Quotas: GetServiceQuota and ListServiceQuotas. There is one quota: the vCPUs of an account's instances.

use super::page::{Asked, Page};
use super::{Api, parse};
use aws::service_quotas::*;
use aws::{ApiError, Caller, codes};

const SERVICE_CODE: &str = "ec2";
/// AWS's code of the quota that all types on offer come under.
const VCPUS_CODE: &str = "L-1216C47A";

/// GetServiceQuota.
pub fn quota_get(
    api: &Api,
    caller: &Caller,
    input: GetServiceQuotaRequest,
) -> Result<GetServiceQuotaResponse, ApiError> {
    service_check(&input.service_code)?;
    let quota = vcpus(api, caller);
    if input.quota_code != quota.quota_code {
        return Err(not_found("quota"));
    }
    Ok(GetServiceQuotaResponse { quota })
}

/// ListServiceQuotas.
pub fn quotas_list(
    api: &Api,
    caller: &Caller,
    input: ListServiceQuotasRequest,
) -> Result<ListServiceQuotasResponse, ApiError> {
    service_check(&input.service_code)?;
    let level = input.quota_applied_at_level.as_deref().unwrap_or("ACCOUNT");
    if !["ACCOUNT", "RESOURCE", "ALL"].contains(&level) {
        let message = "QuotaAppliedAtLevel is ACCOUNT, RESOURCE or ALL.";
        return Err(ApiError::new(codes::VALIDATION_EXCEPTION, message));
    }
    let selection = (&input.service_code, &input.quota_code, level);
    let asked = Asked { max_results: input.max_results, next_token: input.next_token };
    // The same mistakes under this service's own names.
    let page = Page::open(api, caller, "ListServiceQuotas", &selection, 1..=100, asked).map_err(|error| {
        let code = match error.code.as_ref() {
            "InvalidNextToken" => codes::INVALID_PAGINATION_TOKEN_EXCEPTION,
            _ => codes::VALIDATION_EXCEPTION,
        };
        ApiError::new(code, error.message)
    })?;
    let wanted = |quota: &ServiceQuota| {
        level != "RESOURCE"
            && input.quota_code.as_ref().is_none_or(|code| *code == quota.quota_code)
            && page.is_after(&quota.quota_code)
    };
    let quotas = [vcpus(api, caller)].into_iter().filter(wanted);
    let (quotas, next_token) = page.take(quotas, |quota| quota.quota_code.clone());
    Ok(ListServiceQuotasResponse { quotas, next_token })
}

fn vcpus(api: &Api, caller: &Caller) -> ServiceQuota {
    ServiceQuota {
        service_code: SERVICE_CODE.to_owned(),
        service_name: "Amazon Elastic Compute Cloud (Amazon EC2)".to_owned(),
        quota_arn: parse::arn(caller, "servicequotas", &format!("{SERVICE_CODE}/{VCPUS_CODE}")),
        quota_code: VCPUS_CODE.to_owned(),
        quota_name: "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances".to_owned(),
        value: f64::from(api.facts.vcpus_per_account),
        unit: "None".to_owned(),
        adjustable: false,
        global_quota: false,
        quota_applied_at_level: Some("ACCOUNT".to_owned()),
        description: Some("vCPUs of all instances that hold a place on a host".to_owned()),
    }
}

fn service_check(code: &str) -> Result<(), ApiError> {
    if code == SERVICE_CODE { Ok(()) } else { Err(not_found("service")) }
}

fn not_found(noun: &str) -> ApiError {
    let message = format!("The request failed because the specified {noun} does not exist.");
    ApiError::new(codes::NO_SUCH_RESOURCE_EXCEPTION, message)
}
