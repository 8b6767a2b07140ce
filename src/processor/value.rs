//! What a job returns.

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// JSON to the letter: numbers keep their digits, objects their order, and texts what is cut off.
#[derive(Clone, Debug)]
pub struct ReturnValue(Box<RawValue>);

impl ReturnValue {
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned())
    }

    /// # Errors
    /// It is not JSON.
    pub fn read(json: &[u8]) -> Result<Self, serde_json::Error> {
        Ok(Self(serde_json::from_slice::<&RawValue>(json)?.to_owned()))
    }

    pub fn get(&self) -> &str {
        self.0.get()
    }

    #[cfg(test)]
    pub fn to_value(&self) -> Value {
        serde_json::from_str(self.get()).expect("a value that can be read")
    }

    pub fn into_raw(self) -> Box<RawValue> {
        self.0
    }
}

impl From<Value> for ReturnValue {
    fn from(value: Value) -> Self {
        Self(to_raw_value(&value).expect("a value is JSON"))
    }
}

impl From<Box<RawValue>> for ReturnValue {
    fn from(json: Box<RawValue>) -> Self {
        Self(json)
    }
}

impl PartialEq for ReturnValue {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}
