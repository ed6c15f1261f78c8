//! Service Quotas: what an account may have.

use crate::{Shape, service};

service! {
    /// AWS Service Quotas, version 2019-06-24.
    pub trait ServiceQuotas in SERVICE {
        name: "servicequotas", protocol: Json11, version: "2019-06-24",
        namespace: "", target_prefix: "ServiceQuotasV20190624",
        unsupported: "AssociateServiceQuotaTemplate CreateSupportCase
            DeleteServiceQuotaIncreaseRequestFromTemplate DisassociateServiceQuotaTemplate
            GetAssociationForServiceQuotaTemplate GetAutoManagementConfiguration GetAWSDefaultServiceQuota
            GetQuotaUtilizationReport GetRequestedServiceQuotaChange
            GetServiceQuotaIncreaseRequestFromTemplate ListAWSDefaultServiceQuotas
            ListRequestedServiceQuotaChangeHistory ListRequestedServiceQuotaChangeHistoryByQuota
            ListServiceQuotaIncreaseRequestsInTemplate ListServices ListTagsForResource
            PutServiceQuotaIncreaseRequestIntoTemplate RequestServiceQuotaIncrease StartAutoManagement
            StartQuotaUtilizationReport StopAutoManagement TagResource UntagResource UpdateAutoManagement",
    }
    GetServiceQuota => get_service_quota(GetServiceQuotaRequest) -> GetServiceQuotaResponse;
    ListServiceQuotas => list_service_quotas(ListServiceQuotasRequest) -> ListServiceQuotasResponse;
}

/// The input of GetServiceQuota.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "ContextId")]
pub struct GetServiceQuotaRequest {
    /// `ec2`.
    pub service_code: String,
    /// `L-1216C47A`.
    pub quota_code: String,
}

/// The answer of GetServiceQuota.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct GetServiceQuotaResponse {
    /// The quota.
    pub quota: ServiceQuota,
}

/// The input of ListServiceQuotas.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct ListServiceQuotasRequest {
    /// `ec2`.
    pub service_code: String,
    /// Only this quota.
    pub quota_code: Option<String>,
    /// `ACCOUNT`, `RESOURCE` or `ALL`.
    pub quota_applied_at_level: Option<String>,
    /// At most so many quotas, 1 to 100.
    pub max_results: Option<i32>,
    /// Where the page before ended.
    pub next_token: Option<String>,
}

/// The answer of ListServiceQuotas.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct ListServiceQuotasResponse {
    /// The quotas of this page.
    pub quotas: Vec<ServiceQuota>,
    /// Where the next page starts, if there is one.
    pub next_token: Option<String>,
}

/// One quota, as it applies to the account.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct ServiceQuota {
    /// `ec2`.
    pub service_code: String,
    /// `Amazon Elastic Compute Cloud (Amazon EC2)`.
    pub service_name: String,
    /// `arn:aws:servicequotas:REGION:ACCOUNT:ec2/L-1216C47A`.
    pub quota_arn: String,
    /// `L-1216C47A`.
    pub quota_code: String,
    /// `Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances`.
    pub quota_name: String,
    /// How much.
    pub value: f64,
    /// Of what: `None` if it is a plain number.
    pub unit: String,
    /// Whether it can be raised.
    pub adjustable: bool,
    /// Whether it holds for all regions together.
    pub global_quota: bool,
    /// `ACCOUNT` or `RESOURCE`.
    pub quota_applied_at_level: Option<String>,
    /// What it limits, in a sentence.
    pub description: Option<String>,
}
