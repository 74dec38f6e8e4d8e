//! The JSON Schema of a family's file, as it is validated.

use std::sync::LazyLock;

use serde_json::Value;

use crate::checkpoint::models::catalogue::FamilyFile;
use crate::recipe::schema::object_of;

/// The schema, in draft-07 and without references.
pub(super) static SCHEMA: LazyLock<Value> = LazyLock::new(|| Value::Object(object_of::<FamilyFile>()));
