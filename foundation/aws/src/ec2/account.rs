//! What is said about an account.

use crate::Shape;

/// The input of DescribeAccountAttributes.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeAccountAttributesRequest {
    /// `supported-platforms`, `default-vpc`, `max-instances`...
    pub attribute_names: Vec<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of DescribeAccountAttributes.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeAccountAttributesResponse {
    /// The attributes.
    pub account_attributes: Vec<AccountAttribute>,
}

/// An attribute of an account.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct AccountAttribute {
    /// `supported-platforms`...
    pub attribute_name: String,
    /// Its values.
    pub attribute_values: Vec<AccountAttributeValue>,
}

/// A value of an attribute of an account.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct AccountAttributeValue {
    /// The value.
    pub attribute_value: String,
}
