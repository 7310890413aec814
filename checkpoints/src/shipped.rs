//! The styles that ship with the project, embedded in the binary (each under 1 MB).

use crate::error::CheckpointError;
use crate::style_model::StyleModel;

/// Name and file of every shipped style, by name.
const STYLES: &[(&str, &[u8])] = &[
    ("composition_vii", include_bytes!("../styles/composition_vii.safetensors")),
    ("contrast_of_forms", include_bytes!("../styles/contrast_of_forms.safetensors")),
    ("mondrian", include_bytes!("../styles/mondrian.safetensors")),
    ("starry_night", include_bytes!("../styles/starry_night.safetensors")),
    ("the_scream", include_bytes!("../styles/the_scream.safetensors")),
    ("udnie", include_bytes!("../styles/udnie.safetensors")),
    ("wave", include_bytes!("../styles/wave.safetensors")),
    ("woman_with_hat", include_bytes!("../styles/woman_with_hat.safetensors")),
];

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
            Err(CheckpointError::UnknownStyle { name: name.to_string(), known })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every shipped style can be read, is small, is called what it is listed as, and says whom it owes.
    #[test]
    fn shipped_styles_are_whole_and_credited() {
        assert!(names().count() > 0);
        for (name, bytes) in STYLES {
            let model = load(name).unwrap();
            let metadata = model.metadata();
            assert_eq!(metadata.name, *name);
            assert!(bytes.len() < 1 << 20, "{name}: {} bytes", bytes.len());
            assert!(metadata.license.is_some() && metadata.training.is_some(), "{name}");
            for role in ["style picture", "loss network"] {
                assert!(
                    metadata.credits.iter().any(|credit| credit.role == role),
                    "{name}: no credit for the {role}"
                );
            }
            assert!(
                metadata.bf16_psnr.is_some_and(|psnr| psnr >= 40.0),
                "{name}: {:?} dB",
                metadata.bf16_psnr
            );
            // A model's papers travel: no path of the machine that trained it.
            let config =
                metadata.training.as_ref().and_then(|training| training.config.clone()).unwrap_or_default();
            // (A painting's title may hold a slash.)
            let mut lines = config.lines().filter(|line| !line.starts_with("credit_work"));
            assert!(lines.all(|line| !line.contains('/')), "{name}: {config}");
            assert_eq!(model.to_bytes().unwrap(), *bytes, "{name}: saved again differs");
        }
    }

    /// Each has the recipe that it was trained with, for anybody's machine: it names no path.
    #[test]
    fn every_shipped_style_has_its_recipe() {
        for name in names() {
            let path = format!("{}/recipes/{name}.toml", env!("CARGO_MANIFEST_DIR"));
            let recipe = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            // (A painting's title may hold a slash.)
            let mut settings =
                recipe.lines().filter(|line| !line.starts_with('#') && !line.starts_with("credit_work"));
            assert!(settings.clone().any(|line| line == format!("name = \"{name}\"")), "{recipe}");
            assert!(settings.all(|line| !line.contains('/')), "{recipe}");
            let training = load(name).unwrap().metadata().training.clone().unwrap();
            assert!(
                recipe.contains(&format!("steps = {}\n", training.steps)),
                "{name}: {} steps",
                training.steps
            );
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = load("sunflowers").unwrap_err().to_string();
        assert!(error.contains("`sunflowers`") && error.contains("starry_night"), "{error}");
    }
}
