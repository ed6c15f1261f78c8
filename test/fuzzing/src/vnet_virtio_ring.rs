//! What a guest writes into its memory with a ring in it: 8 descriptors at 0, the available ring at 0x100, the used ring
//! at 0x200, anything behind.

/// Takes a memory.
pub fn fuzz(bytes: &[u8]) {
    vnet::virtio::hostile::descriptors(bytes);
}
