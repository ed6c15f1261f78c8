//! The API's meaning: AWS's operations on the region's model and owner.

use crate::asker::Asker;
use crate::image::Image;
use crate::model::Model;
use base::ids::{RegionName, ZoneName};
use std::sync::{Arc, RwLock};

/// stub
pub struct Facts {
    /// stub
    pub region: RegionName,
    /// stub
    pub zones: Vec<ZoneName>,
    /// stub
    pub images: Vec<Image>,
    /// stub
    pub endpoint: String,
    /// stub
    pub vcpus_per_account: u32,
    /// stub
    pub cursor_secret: [u8; 32],
}
/// stub
pub struct Api;
impl Api {
    /// stub
    pub fn new(_: Facts, _: Arc<RwLock<Model>>, _: Asker) -> Api {
        Api
    }
}
impl aws::ec2::Ec2 for Api {}
impl aws::sts::Sts for Api {}
impl aws::service_quotas::ServiceQuotas for Api {}
