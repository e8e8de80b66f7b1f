//! Nothing is dropped without a word: an order that has a part which the recipe does not carry, or more digits than
//! the ERP keeps, is refused before it is sent.

use serde_json::Value as Json;

use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::domain::order::contents::{Content, Part, parts_of, places, text};
use crate::domain::text::quoted;

use super::engine::RecipeErp;
use super::model::{Carries, Expr};
use super::values::Vars;

impl RecipeErp {
    /// Fails if the ERP would not get all of `document`.
    pub(super) fn check_carried(&self, document: &Json, vars: &Vars) -> Result<(), Failure> {
        let Some(carries) = &self.recipe.carries else { return Ok(()) };
        let is_lost = |part: &Part| {
            !carries.contents.contains(&part.content)
                && !carries.drops.contains(&part.content)
                && !self.drops.contains(&part.content)
        };
        if let Some(part) = parts_of(document).into_iter().find(is_lost) {
            return Err(not_carried(&self.recipe.name, &part));
        }
        self.check_digits(carries, document, vars)
    }

    fn check_digits(&self, carries: &Carries, document: &Json, vars: &Vars) -> Result<(), Failure> {
        let lines = document.get("lines").and_then(Json::as_array);
        for (name, digits) in &carries.digits {
            let Some(most) = self.most_digits(digits, vars) else { continue };
            let found = lines.into_iter().flatten().enumerate().find_map(|(index, line)| {
                let value = line.get(name)?;
                (places(value)? > most).then(|| (format!("/lines/{index}/{name}"), text(value)))
            });
            if let Some((place, value)) = found {
                let name = &self.recipe.name;
                let detail = format!(
                    "{place} is {}: the ERP would round it to {most} digits behind the point ({}): correct it, or set \
                     how many digits the ERP keeps in the recipe `{name}`",
                    quoted(&value, 40),
                    digits.key
                );
                return Err(refusal("too_many_digits", &detail));
            }
        }
        Ok(())
    }

    fn most_digits(&self, digits: &Expr, vars: &Vars) -> Option<i64> {
        let value = self.recipe.templates.eval(&digits.value, vars).ok()?;
        value.to_string().parse().ok()
    }
}

fn not_carried(recipe: &str, part: &Part) -> Failure {
    let Part { content, place, value } = part;
    let name = content.as_str();
    let why = match content {
        Content::Guest => "the customer has no number in the ERP".to_owned(),
        _ => format!("{place} is {value}"),
    };
    let detail = format!(
        "{why}, and the recipe `{recipe}` does not carry `{name}` to the ERP: add it to the recipe, remove it from the \
         order, or allow that it is dropped: erp.drop = [\"{name}\"]"
    );
    refusal("not_carried", &detail)
}

fn refusal(code: &str, detail: &str) -> Failure {
    Failure::new(ErrorClass::Internal, code, detail, Stage::Before)
}
