//! The styles on offer: names, papers, models, and a thumbnail of each that is painted when first asked for.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::StatusCode;
use impasto_checkpoints::StyleModel;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::answer::Refusal;
use super::config::Style;
use super::settings::shorten;

/// Styles in the order in which they are shown.
pub struct Catalogue {
    entries: Vec<Entry>,
}

/// A style on offer.
pub struct Entry {
    /// Name in requests, `starry_night`.
    pub name: String,
    /// The model.
    pub model: Arc<StyleModel>,
    /// Multiply-adds for a pixel, the measure of what painting costs.
    pub cost_per_pixel: f64,
    /// Another model of the same name has another.
    fingerprint: u64,
    /// JPEG of a thumbnail, once somebody has asked for it.
    pub thumbnail: OnceCell<Bytes>,
}

impl Catalogue {
    /// Takes over a configuration's styles.
    pub fn new(styles: Vec<Style>) -> Self {
        let entries = styles.into_iter().map(|Style { name, model }| Entry {
            name,
            cost_per_pixel: model.architecture().multiply_adds_per_pixel(),
            fingerprint: fingerprint(&model),
            model: Arc::new(model),
            thumbnail: OnceCell::new(),
        });
        Catalogue { entries: entries.collect() }
    }

    /// All styles.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// A style's index by its name, which is compared and never taken for a path.
    ///
    /// # Errors
    /// 404 with the names there are.
    pub fn find(&self, name: &str) -> Result<usize, Refusal> {
        self.entries.iter().position(|entry| entry.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.entries.iter().map(|entry| entry.name.as_str()).collect();
            let known = match names.split_last() {
                Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
                _ => names.join(", "),
            };
            Refusal::new(
                StatusCode::NOT_FOUND,
                "unknown_style",
                format!("no style `{}`", shorten(name)),
                format!("expected {known}"),
            )
        })
    }

    /// What `GET /api/styles` tells.
    pub fn to_json(&self) -> Value {
        self.entries.iter().map(Entry::to_json).collect()
    }

    /// A catalogue of small random styles.
    #[cfg(test)]
    pub fn of_names(names: &[&str]) -> Self {
        let mut architecture = impasto_checkpoints::Architecture::johnson(1).unwrap();
        architecture.layers = "c9s1-2,d3,R3,u2,c9s1-3".parse().unwrap();
        let model = StyleModel::random(architecture, 1).unwrap();
        Catalogue::new(
            names.iter().map(|name| Style { name: name.to_string(), model: model.clone() }).collect(),
        )
    }
}

impl Entry {
    fn to_json(&self) -> Value {
        let metadata = self.model.metadata();
        let painting = metadata.credits.iter().find(|credit| credit.role == "style picture");
        json!({
            "name": self.name,
            "title": title(&self.name),
            "painting": painting.map(|credit| &credit.work),
            "license": metadata.license,
            // Browsers keep thumbnails for an hour; a model that was learned anew has an address of its own.
            "thumbnail": format!("/thumbnails/{}?v={:x}", percent_encoded(&self.name), self.fingerprint),
        })
    }
}

fn fingerprint(model: &StyleModel) -> u64 {
    let mut hasher = DefaultHasher::new();
    // What cannot be written is not told apart.
    model.to_bytes().unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

/// `starry_night` as `Starry Night`, `contrast_of_forms` as `Contrast of Forms`, `composition_vii` as `Composition VII`.
fn title(name: &str) -> String {
    let words = name.split(['_', '-', ' ']).filter(|word| !word.is_empty());
    let words = words.enumerate().map(|(at, word)| {
        if at > 0 && ["a", "and", "at", "in", "of", "on", "the", "with"].contains(&word) {
            return word.to_owned();
        }
        if at > 0 && word.chars().all(|letter| "ivx".contains(letter)) {
            return word.to_uppercase();
        }
        let mut letters = word.chars();
        let first = letters.next().into_iter().flat_map(char::to_uppercase);
        first.chain(letters).collect::<String>()
    });
    words.collect::<Vec<_>>().join(" ")
}

/// RFC 3986, section 2.1: everything but unreserved characters as `%XX`.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_for_people_and_addresses_for_browsers() {
        assert_eq!(title("the_scream"), "The Scream");
        assert_eq!(title("été-2"), "Été 2");
        assert_eq!(title("contrast_of_forms"), "Contrast of Forms");
        assert_eq!(title("composition_vii"), "Composition VII");
        assert_eq!(title("__"), "");
        assert_eq!(percent_encoded("a b/é"), "a%20b%2F%C3%A9");
        let styles = Catalogue::of_names(&["my style"]).to_json();
        let thumbnail = styles[0]["thumbnail"].as_str().unwrap();
        assert!(thumbnail.starts_with("/thumbnails/my%20style?v="), "{thumbnail}");
        assert_eq!(styles[0]["title"], "My Style");
    }

    /// What a browser has kept of the one is not shown for the other.
    #[test]
    fn a_model_learned_anew_has_another_thumbnail() {
        let thumbnail = |seed| {
            let architecture = impasto_checkpoints::Architecture::johnson(1).unwrap();
            let model = StyleModel::random(architecture, seed).unwrap();
            let catalogue = Catalogue::new(vec![Style { name: "mine".into(), model }]);
            catalogue.to_json()[0]["thumbnail"].to_string()
        };
        assert_eq!(thumbnail(1), thumbnail(1));
        assert_ne!(thumbnail(1), thumbnail(2));
    }
}
