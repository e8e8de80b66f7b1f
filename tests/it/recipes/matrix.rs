//! Every step of every shipped recipe with every wrong answer: never a second order, never a false
//! reason, never parked by trouble.

use order_relay::adapters::erp::recipe::engine::RecipeErp;
use order_relay::adapters::erp::recipe::open::load;
use order_relay::domain::failure::{ErrorClass, Stage};
use order_relay::domain::order::contents::Content;
use order_relay::ports::erp::{Erp, OrderForErp, ProbeAnswer};
use serde_json::{Value as Json, json};

use crate::stand_in::{Behaviour, Fate, Says, StandIn};

use super::erps::{self, KEY, USER};
use super::{Setting, for_erp, open, order};

/// An order with each part, as it is merged into the usual one.
const PARTS: [(Content, &str); 20] = [
    (Content::GrossPrices, r#"{"prices": "gross"}"#),
    (Content::NetPrices, r#"{"prices": "net"}"#),
    (Content::Remark, r#"{"remark": "ring twice"}"#),
    (Content::InvoiceAddress, r#"{"invoice_address": {"city": "Berlin"}}"#),
    (Content::DeliveryAddress, r#"{"delivery_address": {"city": "Bonn"}}"#),
    (Content::DeliveryDate, r#"{"delivery_date": "2026-11-30"}"#),
    (Content::Shipping, r#"{"shipping": {"method": "dhl"}}"#),
    (Content::ShippingPrice, r#"{"shipping": {"price": "4.90"}}"#),
    (Content::Payment, r#"{"payment": {"reference": "P-1"}}"#),
    (Content::Payments, r#"{"payments": [{"method": "gift_card", "amount": "5"}]}"#),
    (Content::Discounts, r#"{"discounts": [{"amount": "5"}]}"#),
    (Content::Surcharges, r#"{"surcharges": [{"amount": "5"}]}"#),
    (Content::References, r#"{"references": {"marketplace": "302-1"}}"#),
    (Content::Guest, r#"{"customer": {"number": null}}"#),
    (Content::Company, r#"{"customer": {"company": "Nord GmbH"}}"#),
    (Content::VatId, r#"{"customer": {"vat_id": "DE123456789"}}"#),
    (Content::TaxRate, r#"{"remark": null}"#),
    (
        Content::LineUnit,
        r#"{"lines": [{"sku": "A", "quantity": 1, "unit_price": 1, "unit": "m"}]}"#,
    ),
    (
        Content::LineDiscount,
        r#"{"lines": [{"sku": "A", "quantity": 1, "unit_price": 1, "discount": "0.5"}]}"#,
    ),
    (
        Content::LineRemark,
        r#"{"lines": [{"sku": "A", "quantity": 1, "unit_price": 1, "remark": "blue"}]}"#,
    ),
];

pub(super) struct Subject<'a> {
    pub(super) recipe: &'a str,
    pub(super) behaviour: Behaviour,
    pub(super) setting: &'a Setting,
    pub(super) more: &'a [(&'a str, &'a str)],
    /// What the ERP says when it is in trouble itself.
    pub(super) trouble: (u16, Json),
}

/// Says the right thing, or half of it.
fn own(fate: Fate) -> (Says, Fate) {
    (Says { status: 0, headers: Vec::new(), body: String::new() }, fate)
}

fn wrong_answers(trouble: &(u16, Json)) -> Vec<(&'static str, Says, Fate)> {
    let json = |status, body: &Json| Says::json(status, body);
    let (half, cut) = own(Fate::Half);
    let trouble = match &trouble.1 {
        Json::String(xml) => Says::text(trouble.0, "text/xml", xml),
        body => json(trouble.0, body),
    };
    vec![
        ("page", Says::html(200), Fate::Arrives),
        ("empty", Says::text(200, "application/json", ""), Fate::Arrives),
        ("foreign JSON", json(200, &json!({"welcome": "elsewhere"})), Fate::Arrives),
        ("null", json(200, &Json::Null), Fate::Arrives),
        ("half", half, cut),
        ("trouble", trouble, Fate::Arrives),
        (
            "foreign error",
            json(404, &json!({"message": "no Route matched with those values"})),
            Fate::Arrives,
        ),
    ]
}

impl Subject<'_> {
    async fn start(&self) -> (RecipeErp, StandIn) {
        let stand_in = StandIn::start(self.behaviour).await;
        let url = stand_in.url.clone();
        let more: Vec<(&str, &str)> =
            self.more.iter().map(|(k, v)| (*k, if *v == "URL" { &url } else { *v })).collect();
        (open(self.recipe, &stand_in.url, self.setting, &more), stand_in)
    }

    pub(super) async fn holds(&self) {
        let (erp, stand_in) = self.start().await;
        let expected = erp.submit(&order("O-1", "SKU-100")).await.unwrap().erp_order_id;
        let requests = stand_in.books.lock().unwrap().asked.len();
        for number in 1..=requests {
            for (name, says, fate) in wrong_answers(&self.trouble) {
                let at = format!("{}: request {number} of {requests}, {name}", self.recipe);
                self.survives(number, says, fate, expected.as_deref(), &at).await;
            }
        }
        if erp.can_ask() {
            self.asks().await;
        }
        self.compares().await;
        self.drops_nothing_silently().await;
    }

    /// An order that the ERP has with another total is told, and is not entered again.
    async fn compares(&self) {
        let (erp, stand_in) = self.start().await;
        let dearer = order("O-1", "SKU-100").document.replace("19.00", "20.00");
        let dearer = OrderForErp { document: dearer.into(), ..order("O-1", "SKU-100") };
        let sent = erp.submit(&dearer).await;
        if let Some(why) = erp.why_totals_are_not_compared() {
            assert!(!why.is_empty() && sent.is_ok(), "{}: {sent:?}", self.recipe);
            return;
        }
        let failure = sent.unwrap_err();
        assert_eq!(failure.code, "total_differs", "{}: {failure:?}", self.recipe);
        assert!(failure.message.contains("paid 20.00 EUR"), "{failure:?}");
        assert_eq!(stand_in.books.lock().unwrap().orders.len(), 1);
        let ProbeAnswer::Found(receipt) = erp.ask(&dearer).await else { panic!("not found") };
        let again = erp.finish(&dearer, receipt).await.unwrap_err();
        assert_eq!(again.code, "total_differs", "{}: {again:?}", self.recipe);
        assert_eq!(stand_in.books.lock().unwrap().orders.len(), 1);
    }

    /// A part of an order that the recipe neither carries nor may drop is refused before anything is sent.
    async fn drops_nothing_silently(&self) {
        let recipe = load(self.recipe).unwrap().recipe;
        let carries = recipe.carries.as_ref().unwrap_or_else(|| panic!("{}", self.recipe));
        let (erp, stand_in) = self.start().await;
        for (content, part) in PARTS {
            let mut document: Json =
                serde_json::from_str(&order("O-1", "SKU-100").document).unwrap();
            json_patch::merge(&mut document, &serde_json::from_str(part).unwrap());
            let one = for_erp("O-1", &document);
            let refused = erp.rehearse(&one).err().filter(|failure| failure.code == "not_carried");
            let reaches = carries.contents.contains(&content) || carries.drops.contains(&content);
            let at = format!("{}: {}", self.recipe, content.as_str());
            assert_eq!(refused.is_none(), reaches, "{at}: {refused:?}");
            if let Some(failure) = refused {
                assert!(
                    failure.message.contains(&format!("`{}`", content.as_str())),
                    "{failure:?}"
                );
                let failure = erp.submit(&one).await.unwrap_err();
                assert_eq!(
                    (failure.class, failure.stage),
                    (ErrorClass::Internal, Some(Stage::Before))
                );
            }
        }
        assert!(stand_in.books.lock().unwrap().asked.is_empty(), "{}: it was sent", self.recipe);
    }

    /// One wrong answer in the middle of a submit.
    async fn survives(
        &self,
        number: usize,
        says: Says,
        fate: Fate,
        expected: Option<&str>,
        at: &str,
    ) {
        let (erp, stand_in) = self.start().await;
        stand_in.books.lock().unwrap().wrong = Some((number, says, fate));
        let one = order("O-1", "SKU-100");
        let count = || stand_in.books.lock().unwrap().orders.len();
        let receipt = match erp.submit(&one).await {
            Ok(receipt) => receipt,
            Err(failure) => {
                let may_be =
                    matches!(failure.class, ErrorClass::Unavailable | ErrorClass::UnknownOutcome);
                assert!(may_be, "{at}: {failure:?}");
                match erp.ask(&one).await {
                    ProbeAnswer::Found(receipt) => {
                        assert_eq!(count(), 1, "{at}");
                        erp.finish(&one, receipt).await.unwrap_or_else(|f| panic!("{at}: {f:?}"))
                    }
                    ProbeAnswer::Absent => {
                        assert_eq!(count(), 0, "{at}: it is there");
                        erp.submit(&one).await.unwrap_or_else(|f| panic!("{at}: {f:?}"))
                    }
                    // A person has to look: nothing is sent again.
                    ProbeAnswer::Unclear(_) if !erp.can_ask() => return assert!(count() <= 1),
                    ProbeAnswer::Unclear(failure) => panic!("{at}: {failure:?}"),
                }
            }
        };
        assert_eq!(receipt.erp_order_id.as_deref(), expected, "{at}");
        assert_eq!(count(), 1, "{at}");
    }

    /// Wrong answers to the question, about an order that is there and about one that is not.
    async fn asks(&self) {
        for id in ["O-1", "O-2"] {
            for (name, says, fate) in wrong_answers(&self.trouble) {
                let (erp, stand_in) = self.start().await;
                erp.submit(&order("O-1", "SKU-100")).await.unwrap();
                {
                    let mut books = stand_in.books.lock().unwrap();
                    books.wrong = Some((books.asked.len() + 1, says, fate));
                }
                let answer = erp.ask(&order(id, "SKU-100")).await;
                let at = format!("{}: asked about {id}, {name}: {answer:?}", self.recipe);
                // Half of `[]` is nothing, and half of nothing is whole.
                let ProbeAnswer::Unclear(failure) = answer else { panic!("{at}") };
                assert_eq!(failure.class, ErrorClass::Unavailable, "{at}");
            }
        }
    }
}

#[tokio::test]
async fn tryton_jsonrpc_survives_every_wrong_answer() {
    let trouble = (200, json!({"id": 1, "error": ["connection already closed", ""]}));
    let (recipe, behaviour) = ("tryton-jsonrpc", erps::tryton as Behaviour);
    Subject { recipe, behaviour, setting: &USER, more: &[], trouble }.holds().await;
}

#[tokio::test]
async fn tryton_rest_survives_every_wrong_answer() {
    let message = "connection already closed";
    let trouble = (400, json!({"status": 400, "message": message, "description": ""}));
    let (recipe, behaviour) = ("tryton-rest", erps::tryton_rest as Behaviour);
    Subject { recipe, behaviour, setting: &KEY, more: &[], trouble }.holds().await;
}

#[tokio::test]
async fn odoo_survives_every_wrong_answer() {
    let trouble = json!({"name": "psycopg2.InterfaceError", "message": "connection already closed", "debug": "T"});
    let (recipe, behaviour) = ("odoo", erps::odoo as Behaviour);
    let trouble = (500, trouble);
    Subject { recipe, behaviour, setting: &KEY, more: &[], trouble }.holds().await;
}

#[tokio::test]
async fn odoo_jsonrpc_survives_every_wrong_answer() {
    let data = json!({"name": "psycopg2.pool.PoolError", "message": "The Connection Pool Is Full", "debug": "T"});
    let error = json!({"code": 0, "message": "Odoo Server Error", "data": data});
    let trouble = (200, json!({"jsonrpc": "2.0", "id": 1, "error": error}));
    let (recipe, behaviour) = ("odoo-jsonrpc", erps::odoo_jsonrpc as Behaviour);
    Subject { recipe, behaviour, setting: &USER, more: &[], trouble }.holds().await;
}

#[tokio::test]
async fn business_central_survives_every_wrong_answer() {
    let setting = Setting {
        consts: &[("tenant", "T")],
        secrets: &[("client_id", "id"), ("client_secret", "s3cret-client")],
    };
    let error = json!({"code": "Internal_TenantUnavailable", "message": "The tenant is busy."});
    let trouble = (400, json!({"error": error}));
    let (recipe, behaviour) = ("business-central", erps::business_central as Behaviour);
    let more = &[("login", "URL")];
    Subject { recipe, behaviour, setting: &setting, more, trouble }.holds().await;
}

#[tokio::test]
async fn sap_s4_survives_every_wrong_answer() {
    let message = json!({"lang": "en", "value": "No service found for namespace"});
    let trouble = (404, json!({"error": {"code": "/IWFND/MED/170", "message": message}}));
    let (recipe, behaviour) = ("sap-s4", erps::sap as Behaviour);
    Subject { recipe, behaviour, setting: &USER, more: &[], trouble }.holds().await;
}

#[tokio::test]
async fn netsuite_survives_every_wrong_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (recipe, key_file) = erps::netsuite_files(&folder);
    let setting =
        Setting { consts: &[("certificate", "cert")], secrets: &[("client_id", "client")] };
    let more = [("account_url", "URL"), ("key_file", key_file.as_str())];
    let detail =
        json!({"detail": "An unexpected error occurred.", "o:errorCode": "UNEXPECTED_ERROR"});
    let trouble = (400, json!({"title": "Bad Request", "o:errorDetails": [detail]}));
    let (recipe, behaviour) = (recipe.as_str(), erps::netsuite as Behaviour);
    Subject { recipe, behaviour, setting: &setting, more: &more, trouble }.holds().await;
}

#[tokio::test]
async fn erpnext_survives_every_wrong_answer() {
    let setting =
        Setting { consts: &[], secrets: &[("key", "s3cret-key"), ("secret", "s3cret-secret")] };
    let exception = "pymysql.err.OperationalError: (2013, 'Lost connection to MySQL server')";
    let trouble = (417, json!({"exc_type": "OperationalError", "exception": exception}));
    let (recipe, behaviour) = ("erpnext", erps::erpnext as Behaviour);
    Subject { recipe, behaviour, setting: &setting, more: &[], trouble }.holds().await;
}

#[tokio::test]
async fn dolibarr_survives_every_wrong_answer() {
    let error = json!({"code": 500, "message": "Internal Server Error: Error creating order", "0": "Lock wait timeout exceeded"});
    let trouble = (500, json!({"error": error}));
    let (recipe, behaviour) = ("dolibarr", erps::dolibarr as Behaviour);
    Subject { recipe, behaviour, setting: &KEY, more: &[], trouble }.holds().await;
}

#[tokio::test]
async fn ubl_soap_survives_every_wrong_answer() {
    let fault = "<s:Envelope xmlns:s='x'><s:Body><s:Fault><faultcode>s:Server</faultcode>\
        <faultstring>the database is away</faultstring></s:Fault></s:Body></s:Envelope>";
    let (recipe, behaviour) = ("ubl-soap", erps::soap as Behaviour);
    let trouble = (500, Json::from(fault));
    Subject { recipe, behaviour, setting: &USER, more: &[], trouble }.holds().await;
}
