//! The API's meaning: AWS's operations on the region's model and owner.
