//! How the locks' keys are spelt in Redis. The name is their hash tag, so that those of one lock share a slot.

use super::name::{Kind, LockName};

#[derive(Clone, Debug)]
pub(super) struct Keys {
    namespace: String,
}

impl Keys {
    pub fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned() }
    }

    /// The line of those who wait, and until when each of them counts.
    pub fn line(&self, kind: Kind, name: &LockName) -> [String; 2] {
        let base = format!("{}:lock:{{{name}}}:{}", self.namespace, kind.as_str());
        [format!("{base}:line"), format!("{base}:alive")]
    }

    pub fn mirror(&self, name: &LockName) -> String {
        format!("{}:lock:{{{name}}}:lease", self.namespace)
    }

    pub fn fast(&self, name: &LockName) -> String {
        format!("{}:lock:{{{name}}}:fast", self.namespace)
    }

    /// The channel on which waiters are woken.
    pub fn channel(&self) -> String {
        format!("{}:lock:wake", self.namespace)
    }

    /// Names the store that this namespace belongs to.
    pub fn store(&self) -> String {
        format!("{}:store", self.namespace)
    }
}

/// What waits for a lease listens for.
pub(super) fn lease_word(name: &LockName) -> String {
    format!("lease {name}")
}

/// What waits for a fast lock listens for.
pub(super) fn fast_word(name: &LockName) -> String {
    format!("fast {name}")
}
