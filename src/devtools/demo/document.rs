//! The orders of the demo.

/// Order number `number` of the demo.
pub fn document(id: &str, number: u32, article: &str) -> String {
    const NAMES: [(&str, &str); 5] = [
        ("Erika Muster", "de"),
        ("Kenji Watanabe", "en"),
        ("Zoë O'Neill", "en"),
        ("Jürgen Groß", "de"),
        ("Amélie <b>Dupont</b>", "fr"),
    ];
    let (name, locale) = NAMES[usize::try_from(number).unwrap_or(0) % NAMES.len()];
    let quantity = 1 + number % 3;
    let cents = 4995 * quantity;
    serde_json::json!({
        "order_id": id,
        "currency": "EUR",
        "total": format!("{}.{:02}", cents / 100, cents % 100),
        "customer": {
            "number": format!("C-{}", 1000 + number % 17),
            "name": name,
            "email": format!("customer{}@example.com", number % 17),
            "locale": locale,
        },
        "lines": [{
            "sku": article,
            "name": "Lamp",
            "quantity": quantity.to_string(),
            "unit_price": "49.95",
            "tax_rate": "19",
        }],
    })
    .to_string()
}
