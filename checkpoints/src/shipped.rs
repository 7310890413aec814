//! The styles that ship with the project, embedded in the binary (each under 1 MB).

use crate::error::CheckpointError;
use crate::style_model::StyleModel;

/// Name and file of every shipped style, by name.
const STYLES: &[(&str, &[u8])] = &[];

/// Names of the shipped styles.
pub fn names() -> impl Iterator<Item = &'static str> {
    STYLES.iter().map(|(name, _)| *name)
}

/// A shipped style.
///
/// # Errors
/// [`CheckpointError::UnknownStyle`] lists the names there are.
pub fn load(name: &str) -> Result<StyleModel, CheckpointError> {
    match STYLES.iter().find(|(known, _)| *known == name) {
        Some((_, bytes)) => StyleModel::from_bytes(bytes),
        None => {
            let known = names().collect::<Vec<_>>().join(", ");
            Err(CheckpointError::UnknownStyle {
                name: name.to_string(),
                known: if known.is_empty() { "none yet".into() } else { known },
            })
        }
    }
}
