//! Dynamics 365 Finance & Operations: a head first, then each line.

use bigdecimal::BigDecimal;
use order_relay::domain::failure::ErrorClass;
use order_relay::ports::erp::{Erp, ProbeAnswer};
use serde_json::{Value as Json, json};

use crate::stand_in::{Asked, Behaviour, Books, Fate, Says, StandIn};

use super::super::matrix::Subject;
use super::super::{Expected, Setting, for_erp, holds, open, order};
use super::{cents, decimal, keep, only, order_of, whole};

const SETTING: Setting = Setting {
    consts: &[("tenant", "T"), ("company", "demf"), ("site", "1")],
    secrets: &[("client_id", "id"), ("client_secret", "s3cret-client")],
};
const LOGIN: [(&str, &str); 1] = [("login", "URL")];

const HEAD: [&str; 21] = [
    "dataAreaId",
    "SalesOrderNumber",
    "CustomersOrderReference",
    "OrderingCustomerAccountNumber",
    "InvoiceCustomerAccountNumber",
    "CurrencyCode",
    "DefaultShippingSiteId",
    "RequestedReceiptDate",
    "IsDeliveryAddressOrderSpecific",
    "DeliveryAddressName",
    "DeliveryAddressDescription",
    "DeliveryAddressStreet",
    "DeliveryAddressZipCode",
    "DeliveryAddressCity",
    "DeliveryAddressCountryRegionISOCode",
    "TotalDiscountPercentage",
    "TotalDiscountCustomerGroupCode",
    "MultilineDiscountCustomerGroupCode",
    "SkipCreateAutoCharges",
    "ArePricesIncludingSalesTax",
    "IsSalesProcessingStopped",
];
const LINE: [&str; 15] = [
    "dataAreaId",
    "SalesOrderNumber",
    "CustomersLineNumber",
    "ItemNumber",
    "LineDescription",
    "SalesUnitSymbol",
    "OrderedSalesQuantity",
    "SalesPrice",
    "SalesPriceQuantity",
    "FixedPriceCharges",
    "SkipCreateAutoCharges",
    "LineDiscountAmount",
    "LineDiscountPercentage",
    "MultilineDiscountAmount",
    "MultilineDiscountPercentage",
];

fn refused(entity: &str, why: &str) -> Says {
    let message =
        format!("Write failed for table row of type '{entity}'. Infolog: Warning: {why}.");
    let error = json!({"code": "", "message": "An error has occurred.", "innererror": {"message": message, "type": "", "stacktrace": "at T"}});
    Says::json(400, &json!({ "error": error }))
}

fn rows(rows: impl IntoIterator<Item = Json>) -> (Says, bool) {
    let rows: Vec<Json> = rows.into_iter().collect();
    (Says::json(200, &json!({"@odata.context": "x", "value": rows})), false)
}

/// What a field has to be by the filter of a question.
fn filtered(asked: &Asked, field: &str) -> Option<String> {
    let filter = asked.query("$filter");
    let value =
        filter.split(" and ").find_map(|part| part.strip_prefix(&format!("{field} eq ")))?;
    Some(value.trim_matches('\'').to_owned())
}

/// The place of an order by its number in the ERP.
fn place(books: &Books, number: &str) -> usize {
    let all = 1..=books.orders.len();
    all.into_iter()
        .find(|n| order_of(books, *n)["SalesOrderNumber"] == number)
        .unwrap_or_else(|| panic!("no sales order {number}"))
}

fn dynamics(books: &mut Books, asked: &Asked) -> (Says, bool) {
    let path = asked.path();
    if path == "/T/oauth2/v2.0/token" {
        assert!(
            asked.body.contains("scope=https%3A%2F%2Fexample.operations.dynamics.com%2F.default")
        );
        books.logins += 1;
        let token = json!({"access_token": "s3cret-bearer", "expires_in": 3599});
        return (Says::json(200, &token), false);
    }
    assert_eq!(asked.header("authorization"), "Bearer s3cret-bearer");
    if asked.method == "GET" {
        assert_eq!(filtered(asked, "dataAreaId").as_deref(), Some("demf"));
        assert_eq!(asked.query("cross-company"), "true");
    }
    match (asked.method.as_str(), path.strip_prefix("/data/").unwrap()) {
        ("GET", "CustomersV3") => {
            let account = filtered(asked, "CustomerAccount").filter(|own| own == "C-1001");
            let row = |account| json!({"CustomerAccount": account, "InvoiceAccount": ""});
            rows(account.map(row))
        }
        ("GET", "ReleasedProductsV2") => {
            let number = filtered(asked, "ItemNumber").filter(|own| own != "SKU-NOPE");
            rows(number.map(|number| json!({"ItemNumber": number})))
        }
        ("GET", "SalesOrderHeadersV2") => {
            let n = match filtered(asked, "CustomersOrderReference") {
                Some(reference) => books.find(&reference),
                None => Some(place(books, &filtered(asked, "SalesOrderNumber").unwrap())),
            };
            rows(n.map(|n| order_of(books, n)))
        }
        ("GET", "SalesOrderLines") => {
            let n = place(books, &filtered(asked, "SalesOrderNumber").unwrap());
            let number = filtered(asked, "CustomersLineNumber").map(|n| n.parse::<i64>().unwrap());
            let mut lines = order_of(books, n)["lines"].as_array().unwrap().clone();
            lines.retain(|line| number.is_none_or(|own| line["CustomersLineNumber"] == own));
            rows(lines)
        }
        ("POST", "SalesOrderHeadersV2") => (head(books, &asked.json()), true),
        ("POST", "SalesOrderLines") => (line(books, asked.json()), false),
        ("PATCH", entity) => {
            let key =
                entity.strip_prefix("SalesOrderHeadersV2(dataAreaId='demf',SalesOrderNumber='");
            let n = place(books, key.unwrap().strip_suffix("')").unwrap());
            let mut order = order_of(books, n);
            order["IsSalesProcessingStopped"] = asked.json()["IsSalesProcessingStopped"].clone();
            books.states[n - 1] = order.to_string();
            (Says::text(204, "text/plain", ""), false)
        }
        other => panic!("{other:?}"),
    }
}

/// Orders in the currency XXX do not stay unprocessed.
fn head(books: &mut Books, sent: &Json) -> Says {
    only(sent, &HEAD);
    assert_eq!(sent["dataAreaId"], "demf");
    let mut order = sent.clone();
    let number = json!(format!("SO-{}", books.orders.len() + 1));
    let own = sent.get("SalesOrderNumber").cloned().unwrap_or(number);
    let is_there = |n| order_of(books, n)["SalesOrderNumber"] == own;
    if (1..=books.orders.len()).any(is_there) {
        return refused("SalesOrderHeaderV2Entity", "The record already exists");
    }
    order["SalesOrderNumber"] = own;
    order["SalesOrderStatus"] = json!("Backorder");
    order["lines"] = json!([]);
    if sent["CurrencyCode"] == "XXX" {
        order["IsSalesProcessingStopped"] = json!("No");
    }
    keep(books, sent["CustomersOrderReference"].as_str().unwrap(), &order);
    Says::json(201, &order)
}

/// `SKU-BLOCKED` is not sold until a person has set `failures`.
fn line(books: &mut Books, mut sent: Json) -> Says {
    only(&sent, &LINE);
    assert_eq!(sent["dataAreaId"], "demf");
    if sent["ItemNumber"] == "SKU-BLOCKED" && books.failures == 0 {
        return refused(
            "SalesOrderLineV2Entity",
            "Item 'SKU-BLOCKED' is blocked for 'Sales order'",
        );
    }
    let n = place(books, sent["SalesOrderNumber"].as_str().unwrap());
    let amount: BigDecimal = decimal(&sent["OrderedSalesQuantity"]) * decimal(&sent["SalesPrice"]);
    sent["LineAmount"] = json!(cents(&amount).to_string().parse::<f64>().unwrap());
    let mut order = order_of(books, n);
    order["lines"].as_array_mut().unwrap().push(sent.clone());
    books.states[n - 1] = order.to_string();
    Says::json(201, &sent)
}

/// The number, article and amount of each line.
fn lines(order: &Json) -> Vec<String> {
    let line = |line: &Json| {
        let (number, item) = (&line["CustomersLineNumber"], line["ItemNumber"].as_str().unwrap());
        format!("{number} {item} {}", line["LineAmount"])
    };
    order["lines"].as_array().unwrap().iter().map(line).collect()
}

/// The whole order without what the ERP has no field for.
fn carried() -> Json {
    let mut document = whole("gross");
    for part in ["remark", "payment", "references"] {
        document.as_object_mut().unwrap().remove(part);
    }
    document["lines"][0].as_object_mut().unwrap().remove("remark");
    document["lines"][1]["unit"] = json!("m");
    document
}

const LINES: [&str; 6] = [
    "1 SKU-100 23.8",
    "2 SKU-200 16.05",
    "3 DISCOUNT -1.19",
    "4 SHIPPING 4.9",
    "5 SURCHARGE 2.38",
    "6 DISCOUNT -5.95",
];

#[tokio::test]
async fn dynamics_fo_holds() {
    let refusal = "item 'SKU-NOPE' is unknown to the ERP";
    let expected = Expected { number: "SO-1", refusal, reference: "O-1", is_once: false };
    holds("dynamics-fo", dynamics, &SETTING, &LOGIN, &expected).await;
}

#[tokio::test]
async fn dynamics_fo_survives_every_wrong_answer() {
    let conflict = "Cannot edit a record in Sales orders (SalesTable). An update conflict occurred";
    let message = format!("Write failed for table row of type 'T'. Infolog: Error: {conflict}.");
    let error = json!({"code": "", "message": "An error has occurred.", "innererror": {"message": message}});
    let trouble = (400, json!({ "error": error }));
    let (recipe, behaviour) = ("dynamics-fo", dynamics as Behaviour);
    Subject { recipe, behaviour, setting: &SETTING, more: &LOGIN, trouble }.holds().await;
}

#[tokio::test]
async fn dynamics_fo_gets_whole_orders() {
    let stand_in = StandIn::start(dynamics).await;
    let erp = open("dynamics-fo", &stand_in.url, &SETTING, &[("login", &stand_in.url)]);
    erp.submit(&for_erp("O-1", &carried())).await.unwrap();
    let kept = order_of(&stand_in.books.lock().unwrap(), 1);
    assert_eq!(lines(&kept), LINES);
    assert_eq!(kept["IsSalesProcessingStopped"], "No", "after its total was compared");
    let shown = |name: &str| kept[name].as_str().unwrap().to_owned();
    assert_eq!(shown("InvoiceCustomerAccountNumber"), "C-1001");
    assert_eq!(shown("RequestedReceiptDate"), "2026-11-30T12:00:00Z");
    assert_eq!(shown("DeliveryAddressStreet"), "Platz 2");
    assert_eq!(shown("DeliveryAddressCountryRegionISOCode"), "DE");
    assert_eq!(kept["lines"][1]["SalesUnitSymbol"], "m");
}

#[tokio::test]
async fn dynamics_fo_has_each_line_once_whichever_answer_is_lost() {
    let mut lost = 0;
    loop {
        lost += 1;
        let stand_in = StandIn::start(dynamics).await;
        let erp = open("dynamics-fo", &stand_in.url, &SETTING, &[("login", &stand_in.url)]);
        let nothing = Says { status: 0, headers: Vec::new(), body: String::new() };
        stand_in.books.lock().unwrap().wrong = Some((lost, nothing, Fate::Lost));
        let one = for_erp("O-1", &carried());
        if erp.submit(&one).await.is_err() {
            match erp.ask(&one).await {
                ProbeAnswer::Found(receipt) => drop(erp.finish(&one, receipt).await.unwrap()),
                ProbeAnswer::Absent => drop(erp.submit(&one).await.unwrap()),
                ProbeAnswer::Unclear(failure) => panic!("request {lost}: {failure:?}"),
            }
        }
        let books = stand_in.books.lock().unwrap();
        let kept = order_of(&books, 1);
        assert_eq!((books.orders.len(), lines(&kept)), (1, LINES.map(str::to_owned).to_vec()));
        assert_eq!(kept["IsSalesProcessingStopped"], "No", "request {lost}");
        if books.asked.len() < lost {
            break;
        }
    }
    // The token, what is read, the head, six lines, the total, the release and its end.
    assert!(lost > 15, "{lost}");
}

#[tokio::test]
async fn a_refused_line_leaves_an_order_of_dynamics_fo_that_is_not_processed() {
    let stand_in = StandIn::start(dynamics).await;
    let erp = open("dynamics-fo", &stand_in.url, &SETTING, &[("login", &stand_in.url)]);
    let one = order("O-1", "SKU-BLOCKED");
    let failure = erp.submit(&one).await.unwrap_err();
    assert_eq!(failure.class, ErrorClass::Rejected);
    let text = "in the ERP as SO-1, but order_line failed: Warning: Item 'SKU-BLOCKED' is blocked";
    assert!(failure.message.starts_with(text), "{failure:?}");
    let kept = || order_of(&stand_in.books.lock().unwrap(), 1);
    assert_eq!(kept()["IsSalesProcessingStopped"], "Yes");
    stand_in.books.lock().unwrap().failures = 1;
    let ProbeAnswer::Found(receipt) = erp.ask(&one).await else { panic!("not found") };
    erp.finish(&one, receipt).await.unwrap();
    assert_eq!(lines(&kept()), ["1 SKU-BLOCKED 19.0"]);
    assert_eq!(kept()["IsSalesProcessingStopped"], "No");
}

#[tokio::test]
async fn a_number_of_the_shop_is_unique_in_dynamics_fo() {
    let stand_in = StandIn::start(dynamics).await;
    let more = [("login", stand_in.url.as_str()), ("numbers", "shop")];
    let erp = open("dynamics-fo", &stand_in.url, &SETTING, &more);
    let one = order("O-1", "SKU-100");
    for _ in 0..2 {
        let receipt = erp.submit(&one).await.unwrap();
        assert_eq!(receipt.erp_order_id.as_deref(), Some("O-1"));
    }
    let books = stand_in.books.lock().unwrap();
    assert_eq!((books.orders.len(), lines(&order_of(&books, 1)).len()), (1, 1));
}

#[tokio::test]
async fn dynamics_fo_names_a_missing_service() {
    let stand_in = StandIn::start(dynamics).await;
    let more = [("login", stand_in.url.as_str()), ("sku_shipping", "SKU-NOPE")];
    let erp = open("dynamics-fo", &stand_in.url, &SETTING, &more);
    let failure = erp.submit(&for_erp("O-1", &carried())).await.unwrap_err();
    let text =
        "'SKU-NOPE', which stands for a price of shipping: make one, or set erp.const.sku_shipping";
    assert!(failure.message.contains(text), "{failure:?}");
    assert!(stand_in.books.lock().unwrap().orders.is_empty());
}

#[tokio::test]
async fn an_order_of_dynamics_fo_that_may_be_processed_at_once_gets_no_lines() {
    let stand_in = StandIn::start(dynamics).await;
    let erp = open("dynamics-fo", &stand_in.url, &SETTING, &[("login", &stand_in.url)]);
    let mut document = carried();
    document["currency"] = json!("XXX");
    let failure = erp.submit(&for_erp("O-1", &document)).await.unwrap_err();
    assert_eq!(failure.code, "total_differs", "{failure:?}");
    assert!(lines(&order_of(&stand_in.books.lock().unwrap(), 1)).is_empty());
}
