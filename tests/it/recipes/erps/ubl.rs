//! A SOAP service that takes a UBL order.

use std::sync::Arc;

use bigdecimal::BigDecimal;
use order_relay::ports::erp::{Erp, OrderForErp};

use crate::recipes::{Expected, holds, open};
use crate::stand_in::{Asked, Books, Says, StandIn};

use super::whole::decimal;
use super::{USER, whole};

pub(in crate::recipes) fn soap(books: &mut Books, asked: &Asked) -> (Says, bool) {
    assert!(asked.header("authorization").starts_with("Basic "));
    assert_eq!(asked.header("soapaction"), "\"SV_OPENTRANS_CREATE_ORDER\"");
    assert!(asked.header("content-type").starts_with("text/xml"));
    let envelope = |body: &str| {
        format!(
            "<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Body>{body}</s:Body></s:Envelope>"
        )
    };
    if asked.body.contains("<cbc:ID>SKU-NOPE</cbc:ID>") {
        let fault = "<s:Fault><faultcode>s:Client</faultcode><faultstring>Item SKU-NOPE does not exist</faultstring></s:Fault>";
        return (Says::text(500, "text/xml", &envelope(fault)), true);
    }
    let reference = asked.body.split("<cbc:ID>").nth(1).unwrap().split('<').next().unwrap();
    let n = books.make(reference);
    let response = format!(
        "<r:OrderResponse xmlns:r='urn:x'><r:SalesOrderID>SO-{n}</r:SalesOrderID></r:OrderResponse>"
    );
    (Says::text(200, "text/xml; charset=utf-8", &envelope(&response)), true)
}

/// The amounts of every element `name`, in their order.
fn amounts(xml: &str, name: &str) -> Vec<BigDecimal> {
    let open = format!("<cbc:{name} currencyID=\"EUR\">");
    xml.split(&open).skip(1).map(|rest| decimal(rest.split('<').next().unwrap())).collect()
}

async fn sent(order: &OrderForErp) -> String {
    let stand_in = StandIn::start(soap).await;
    open("ubl-soap", &stand_in.url, &USER, &[]).submit(order).await.unwrap();
    let books = stand_in.books.lock().unwrap();
    books.asked[0].body.clone()
}

#[tokio::test]
async fn ubl_soap_holds() {
    let refusal = "Item SKU-NOPE does not exist";
    let expected = Expected { number: "SO-1", refusal, reference: "O-1", is_once: false };
    holds("ubl-soap", soap, &USER, &[], &expected).await;
}

#[tokio::test]
async fn ubl_soap_tells_sums_that_add_up_to_what_was_paid() {
    let xml = sent(&whole::order("O-1", "net")).await;
    let sum = |all: &[BigDecimal]| all.iter().sum::<BigDecimal>();
    // The order's own sum comes first, then those of its lines; the tax as a whole, then by rate.
    let lines = amounts(&xml, "LineExtensionAmount");
    assert_eq!(lines[0], sum(&lines[1..]));
    let taxes = amounts(&xml, "TaxAmount");
    assert_eq!(taxes[0], sum(&taxes[1..]));
    let of = |name: &str| amounts(&xml, name)[0].clone();
    assert_eq!(
        of("TaxExclusiveAmount"),
        &lines[0] + of("ChargeTotalAmount") - of("AllowanceTotalAmount")
    );
    assert_eq!(of("TaxExclusiveAmount"), sum(&amounts(&xml, "TaxableAmount")));
    assert_eq!(of("PayableAmount"), of("TaxExclusiveAmount") + &taxes[0]);
    assert_eq!(of("PayableAmount"), decimal("150.86"));
    for part in [
        "<cbc:Note>ring twice</cbc:Note>",
        "<cbc:CustomerReference>marketplace 302-1</cbc:CustomerReference>",
        "<cbc:CompanyID>DE123456789</cbc:CompanyID>",
        "<cbc:RegistrationName>Nord GmbH</cbc:RegistrationName>",
        "<cbc:EndDate>2026-11-30</cbc:EndDate>",
        "<cbc:Name>Max (Lager) O&#39;Neil</cbc:Name>",
        "<cbc:RegistrationName>Lager GmbH</cbc:RegistrationName>",
        "<cbc:Telephone>030 1</cbc:Telephone>",
        "<cbc:SpecialTerms>parcel</cbc:SpecialTerms>",
        "<cbc:PaymentID>P-1</cbc:PaymentID>",
        "<cbc:Quantity unitCode=\"H87\">2</cbc:Quantity>",
        "<cbc:Note>blue</cbc:Note>",
    ] {
        assert!(xml.contains(part), "{part} is not in {xml}");
    }
}

/// Places of elements in the order in which the schema UBL 2.1 has them.
#[tokio::test]
async fn ubl_soap_keeps_the_order_of_the_schema() {
    let children = |xml: &str, names: &[&str]| {
        let places: Vec<Option<usize>> =
            names.iter().map(|name| xml.find(&format!("<{name}"))).collect();
        assert!(places.iter().all(Option::is_some), "{names:?}: {places:?}");
        assert!(places.is_sorted(), "{names:?}: {places:?}");
    };
    let xml = sent(&whole::order("O-1", "net")).await;
    children(
        &xml,
        &[
            "cbc:ID",
            "cbc:UUID",
            "cbc:IssueDate",
            "cbc:Note",
            "cbc:DocumentCurrencyCode",
            "cbc:CustomerReference",
            "cbc:LineCountNumeric",
            "cac:BuyerCustomerParty",
            "cac:SellerSupplierParty",
            "cac:Delivery>",
            "cac:DeliveryTerms",
            "cac:PaymentMeans",
            "cac:AllowanceCharge",
            "cac:TaxTotal",
            "cac:AnticipatedMonetaryTotal",
            "cac:OrderLine",
        ],
    );
    let line = xml.split("<cac:LineItem>").nth(1).unwrap();
    children(
        line,
        &[
            "cbc:ID",
            "cbc:Quantity",
            "cbc:LineExtensionAmount",
            "cac:AllowanceCharge",
            "cac:Price",
            "cac:Item",
            "cac:SellersItemIdentification",
            "cac:ClassifiedTaxCategory",
        ],
    );
    let minimal = r#"{"order_id": "O-2", "currency": "EUR", "total": "1", "customer": {"number": "C-1"}, "lines": [{"sku": "A", "quantity": 1, "unit_price": 1}]}"#;
    let minimal = OrderForErp { document: Arc::from(minimal), ..whole::order("O-2", "net") };
    children(
        &sent(&minimal).await,
        &["cbc:ID", "cac:BuyerCustomerParty", "cac:AnticipatedMonetaryTotal", "cac:OrderLine"],
    );
}
