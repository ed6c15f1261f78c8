//! Between messages' fields and the types of `base`.

use crate::Generation;

impl From<base::generation::Generation> for Generation {
    fn from(generation: base::generation::Generation) -> Self {
        Generation { incarnation: generation.incarnation, revision: generation.revision }
    }
}

impl From<Generation> for base::generation::Generation {
    fn from(generation: Generation) -> Self {
        base::generation::Generation::new(generation.incarnation, generation.revision)
    }
}

/// A message's optional generation; a missing one is the oldest.
pub fn generation(field: Option<Generation>) -> base::generation::Generation {
    field.map_or(base::generation::Generation::ZERO, Into::into)
}
