//! The instance types on offer. Names and sizes are AWS's, so that templates written for AWS fit.
//! Source: Amazon EC2 Instance Types Guide, "Specifications" (general purpose).

/// What an instance type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// `t3.micro`
    pub name: &'static str,
    /// What the guest sees.
    pub vcpus: u32,
    /// What the guest sees.
    pub memory_mib: u32,
    /// vCPUs a core.
    pub threads_per_core: u32,
    /// The T types.
    pub burstable: bool,
    /// Of the newest generation of its family that is on offer.
    pub current_generation: bool,
}

const fn t2(name: &'static str, vcpus: u32, memory_mib: u32) -> Shape {
    Shape { name, vcpus, memory_mib, threads_per_core: 1, burstable: true, current_generation: true }
}

const fn t3(name: &'static str, vcpus: u32, memory_mib: u32) -> Shape {
    Shape { name, vcpus, memory_mib, threads_per_core: 2, burstable: true, current_generation: true }
}

const fn fixed(name: &'static str, vcpus: u32, memory_gib: u32) -> Shape {
    Shape {
        name,
        vcpus,
        memory_mib: memory_gib * 1024,
        threads_per_core: 2,
        burstable: false,
        current_generation: true,
    }
}

/// All instance types, sorted by name.
pub const SHAPES: &[Shape] = &[
    fixed("c5.2xlarge", 8, 16),
    fixed("c5.4xlarge", 16, 32),
    fixed("c5.large", 2, 4),
    fixed("c5.xlarge", 4, 8),
    fixed("m5.2xlarge", 8, 32),
    fixed("m5.4xlarge", 16, 64),
    fixed("m5.large", 2, 8),
    fixed("m5.xlarge", 4, 16),
    fixed("r5.2xlarge", 8, 64),
    fixed("r5.large", 2, 16),
    fixed("r5.xlarge", 4, 32),
    t2("t2.medium", 2, 4096),
    t2("t2.micro", 1, 1024),
    t2("t2.nano", 1, 512),
    t2("t2.small", 1, 2048),
    t3("t3.2xlarge", 8, 32768),
    t3("t3.large", 2, 8192),
    t3("t3.medium", 2, 4096),
    t3("t3.micro", 2, 1024),
    t3("t3.nano", 2, 512),
    t3("t3.small", 2, 2048),
    t3("t3.xlarge", 4, 16384),
];

/// The type of this name.
pub fn find(name: &str) -> Option<&'static Shape> {
    SHAPES.binary_search_by(|shape| shape.name.cmp(name)).ok().map(|index| &SHAPES[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_found_by_its_name() {
        for shape in SHAPES {
            assert_eq!(find(shape.name), Some(shape));
        }
        assert_eq!(find("x9.huge"), None);
    }
}
