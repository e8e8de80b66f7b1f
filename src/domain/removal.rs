//! Why an order is removed from the list: one of a few reasons with its details, stored as one
//! sentence.

use schemars::JsonSchema;
use serde::Deserialize;

use super::text::one_line;

const MAX_TEXT: usize = 500;

/// A reason with its parts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Removal {
    /// It was entered into the ERP by hand.
    EnteredByHand {
        /// The ERP's number.
        erp_order_id: String,
        /// More.
        #[serde(default)]
        text: Option<String>,
    },
    /// The customer or the shop does not want it any more.
    Cancelled {
        /// More.
        #[serde(default)]
        text: Option<String>,
    },
    /// Another order is the same.
    Duplicate {
        /// That order.
        duplicate_of: String,
        /// More.
        #[serde(default)]
        text: Option<String>,
    },
    /// It was a test.
    Test {
        /// More.
        #[serde(default)]
        text: Option<String>,
    },
    /// Another reason, which has to be given.
    Other {
        /// What.
        text: String,
    },
}

impl Removal {
    /// As it is stored; the error says what is missing.
    pub fn sentence(&self) -> Result<String, String> {
        let given = |text: &str, missing: &str| {
            let text = one_line(text.trim(), MAX_TEXT);
            if text.is_empty() { Err(missing.to_owned()) } else { Ok(text) }
        };
        let (begin, text) = match self {
            Self::EnteredByHand { erp_order_id, text } => {
                let number = given(erp_order_id, "enter the number that the order has in the ERP")?;
                (format!("entered by hand in the ERP, number {number}"), text)
            }
            Self::Cancelled { text } => ("cancelled".to_owned(), text),
            Self::Duplicate { duplicate_of, text } => {
                let other = given(duplicate_of, "enter the order of which this is a duplicate")?;
                (format!("duplicate of {other}"), text)
            }
            Self::Test { text } => ("test order".to_owned(), text),
            Self::Other { text } => return given(text, "enter a reason"),
        };
        let more = text.as_deref().map(str::trim).filter(|text| !text.is_empty());
        Ok(match more {
            Some(more) => one_line(&format!("{begin}: {more}"), MAX_TEXT),
            None => begin,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_becomes_one_sentence_or_says_what_is_missing() {
        let said = |json: &str| serde_json::from_str::<Removal>(json).unwrap().sentence();
        let by_hand = r#"{"kind": "entered_by_hand", "erp_order_id": "4711", "text": "by Erika"}"#;
        assert_eq!(
            said(by_hand).as_deref(),
            Ok("entered by hand in the ERP, number 4711: by Erika")
        );
        assert_eq!(said(r#"{"kind": "test"}"#).as_deref(), Ok("test order"));
        assert!(said(r#"{"kind": "other", "text": " "}"#).is_err());
        assert!(said(r#"{"kind": "duplicate", "duplicate_of": ""}"#).is_err());
    }
}
