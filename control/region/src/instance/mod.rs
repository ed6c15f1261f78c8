//! Instances: their launches, their life, and how what they shall be reaches their cell.

pub mod catalogue;
pub mod launch;
pub mod lifecycle;
pub mod reconcile;
pub mod record;
pub mod state;
#[cfg(test)]
mod tests;

use base::generation::Generation;
use base::ids::InstanceId;
use contract::{Target, VmIntent, VmSpec};
use record::{InstanceRecord, ReservationRecord, TemplateRecord};
use state::Stage;

/// An odd constant (2^68 divided by the golden ratio): multiples of it modulo 2^68 are all different.
const STRIDE: u128 = 0x9_e377_9b97_f4a7_c15f;

/// The ids of a launch's members, with their indexes: derived, so that the launch is one record.
pub fn members(reservation: &ReservationRecord) -> impl Iterator<Item = (u32, InstanceId)> + use<> {
    let seed = u128::from(reservation.seed_high) << 64 | u128::from(reservation.seed_low);
    let id =
        move |index: u32| InstanceId::from_bits(seed.wrapping_add(STRIDE.wrapping_mul(u128::from(index))));
    (0..reservation.count).map(move |index| (index, id(index)))
}

/// A member as it is before it has a record of its own.
pub fn member_derive(reservation: &ReservationRecord, index: u32, id: InstanceId) -> InstanceRecord {
    InstanceRecord {
        instance_id: id.to_string(),
        reservation_id: reservation.reservation_id.clone(),
        launch_index: index,
        stage: Stage::Claiming as u32,
        attempt: 1,
        intent: 1,
        zone: reservation.zone.clone(),
        cell_id: reservation.cell_id.clone(),
        template: reservation
            .template
            .as_ref()
            .map(|t| TemplateRecord { user_data: Vec::new(), ..t.clone() }),
        launched_unix_ms: reservation.accepted_unix_ms,
        changed_unix_ms: reservation.accepted_unix_ms,
        verdicts: reservation.verdicts.clone(),
        ..InstanceRecord::default()
    }
}

/// The generation of what the instance shall be.
pub fn generation(incarnation: u64, record: &InstanceRecord) -> Generation {
    Generation::new(incarnation, record.intent)
}

/// What the cell is told of the instance; `None` for a record that lacks its template.
pub fn intent(
    account: &str,
    incarnation: u64,
    record: &InstanceRecord,
    user_data: &[u8],
) -> Option<VmIntent> {
    let target: Target = record.stage().target();
    let template = record.template.as_ref()?;
    Some(VmIntent {
        generation: Some(generation(incarnation, record).into()),
        attempt: record.attempt,
        target: target.into(),
        spec: Some(VmSpec {
            instance_id: record.instance_id.clone(),
            account_id: account.to_owned(),
            reservation_id: record.reservation_id.clone(),
            launch_index: record.launch_index,
            instance_type: template.instance_type.clone(),
            vcpus: template.vcpus(),
            memory_mib: template.memory_mib(),
            image_id: template.image_id.clone(),
            zone: record.zone.clone(),
            user_data: user_data.to_vec(),
            ssh_public_key: template.ssh_public_key.clone(),
            key_name: template.key_name.clone(),
            reboots: record.reboots,
            interfaces: Vec::new(),
        }),
        host_id: record.host_id.clone(),
        force: record.force,
    })
}
