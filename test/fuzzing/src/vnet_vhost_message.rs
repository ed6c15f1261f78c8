//! What a front end says on a guest's vhost-user socket: messages, each behind a byte that says how many descriptors
//! come with it.

/// Takes messages.
pub fn fuzz(bytes: &[u8]) {
    vnet::virtio::hostile::messages(bytes);
}
