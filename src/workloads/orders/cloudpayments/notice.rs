//! A notification, read: a form or JSON, amounts from their decimal texts.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use url::form_urlencoded;

use crate::workloads::orders::parse_amount;

/// What the provider tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// The provider's number of what it tells of: a payment, or a refund.
    pub transaction: String,
    /// Of a refund: the payment that is given back.
    pub payment: Option<String>,
    /// Whole hundredths.
    pub amount: Option<i64>,
    pub currency: Option<String>,
    /// The order's id, as it was given to the payment form.
    pub invoice: Option<String>,
    pub account: Option<String>,
    pub reason: Option<String>,
    pub is_test: bool,
    /// The money was taken, not only blocked.
    pub is_completed: bool,
}

/// A field that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Misshapen {
    pub field: String,
    pub reason: &'static str,
}

/// The longest text that is kept of a reason or a name.
const LONGEST: usize = 200;

impl Notice {
    /// # Errors
    /// The first field that is missing or cannot be read.
    pub fn read(body: &[u8], is_json: bool) -> Result<Self, Misshapen> {
        let fields = if is_json { read_json(body)? } else { read_form(body)? };
        // No text of a database has it.
        if let Some((field, _)) = fields.iter().find(|(_, text)| text.contains('\0')) {
            return Err(wrong(field, "has a character that no text has"));
        }
        let get = |field: &str| fields.get(field).filter(|text| !text.is_empty()).cloned();
        let short = |field: &str| get(field).map(|text| text.chars().take(LONGEST).collect::<String>());
        let number = |field: &str| match get(field) {
            Some(text) if text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Some(text)),
            Some(_) => Err(wrong(field, "must be a whole number")),
            None => Ok(None),
        };
        let amount = match get("Amount").map(|text| parse_amount(&text)) {
            Some(Ok(amount)) => Some(amount),
            Some(Err(_)) => return Err(wrong("Amount", "must be an amount such as 10.00")),
            None => None,
        };
        Ok(Self {
            transaction: number("TransactionId")?.ok_or_else(|| wrong("TransactionId", "is missing"))?,
            payment: number("PaymentTransactionId")?,
            amount,
            currency: short("Currency"),
            invoice: short("InvoiceId"),
            account: short("AccountId"),
            reason: short("Reason"),
            is_test: matches!(get("TestMode").as_deref(), Some("1" | "true" | "True")),
            is_completed: get("Status").is_none_or(|status| status == "Completed"),
        })
    }
}

fn read_form(body: &[u8]) -> Result<BTreeMap<String, String>, Misshapen> {
    let mut fields = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(body) {
        if fields.insert(name.clone().into_owned(), value.into_owned()).is_some() {
            return Err(wrong(&name, "is there twice"));
        }
    }
    Ok(fields)
}

/// Texts as they are, and of all else its own spelling: a number is never a float on the way.
fn read_json(body: &[u8]) -> Result<BTreeMap<String, String>, Misshapen> {
    let unreadable = |_| wrong("body", "is no JSON object");
    let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).map_err(unreadable)?;
    let mut texts = BTreeMap::new();
    for (name, value) in fields {
        let text = match serde_json::from_str::<Option<String>>(value.get()) {
            Ok(text) => text.unwrap_or_default(),
            Err(_) => value.get().to_owned(),
        };
        texts.insert(name, text);
    }
    Ok(texts)
}

fn wrong(field: &str, reason: &'static str) -> Misshapen {
    Misshapen { field: field.chars().take(LONGEST).collect(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Notice {
        Notice {
            transaction: "504".into(),
            payment: None,
            amount: Some(1050),
            currency: Some("RUB".into()),
            invoice: Some("abc".into()),
            account: Some("olga k".into()),
            reason: None,
            is_test: true,
            is_completed: true,
        }
    }

    #[test]
    fn a_form_and_json_say_the_same() {
        let form = b"TransactionId=504&Amount=10.50&Currency=RUB&InvoiceId=abc&AccountId=olga+k&TestMode=1&Status=Completed&Data=";
        let json = br#"{"TransactionId":504,"Amount":10.50,"Currency":"RUB","InvoiceId":"abc","AccountId":"olga k",
            "TestMode":true,"Status":"Completed","Data":null,"Extra":{"a":[1]}}"#;
        assert_eq!(Notice::read(form, false).unwrap(), expected());
        assert_eq!(Notice::read(json, true).unwrap(), expected());
    }

    #[test]
    fn money_that_is_only_blocked_is_no_payment() {
        assert!(!Notice::read(b"TransactionId=1&Status=Authorized", false).unwrap().is_completed);
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_field() {
        for (body, is_json, field) in [
            (&b""[..], false, "TransactionId"),
            (b"TransactionId=x", false, "TransactionId"),
            (b"TransactionId=-1", false, "TransactionId"),
            (b"TransactionId=1&TransactionId=1", false, "TransactionId"),
            (b"TransactionId=1&Amount=1e3", false, "Amount"),
            (b"TransactionId=1&Amount=1.005", false, "Amount"),
            (br#"{"TransactionId":1,"Amount":99999999999999999999}"#, true, "Amount"),
            (br#"{"TransactionId":1,"Amount":-1}"#, true, "Amount"),
            (b"TransactionId=1&InvoiceId=a%00", false, "InvoiceId"),
            (b"[]", true, "body"),
            (b"TransactionId=1", true, "body"),
        ] {
            assert_eq!(Notice::read(body, is_json).unwrap_err().field, field, "{}", String::from_utf8_lossy(body));
        }
    }
}
