//! A Lua script: its text, its name for people, and the digest by which the server knows it.

/// Made once, kept for the life of the program.
#[derive(Clone, Debug)]
pub struct Script {
    name: &'static str,
    pub(super) text: String,
    pub(super) sha1: String,
}

impl Script {
    /// One text from `parts`, in order: shared local functions first, then the act itself.
    pub fn new(name: &'static str, parts: &[&str]) -> Self {
        let text = parts.join("\n");
        let sha1 = fred::util::sha1_hash(&text);
        Self { name, text, sha1 }
    }

    /// The same with something else in one place, for tests of tests; `None` where that place is not.
    #[cfg(test)]
    pub(crate) fn broken(&self, place: &str, by: &str) -> Option<Self> {
        self.text.contains(place).then(|| Self::new(self.name, &[&self.text.replace(place, by)]))
    }

    /// The verb, as in spans and metrics.
    pub fn name(&self) -> &'static str {
        self.name
    }
}
