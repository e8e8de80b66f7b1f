//! Sage X3, SOAP web service of the object SOH.

use bigdecimal::BigDecimal;
use order_relay::ports::erp::Erp;
use regex::Regex;
use serde_json::{Value as Json, json};

use crate::stand_in::{Asked, Behaviour, Books, Says, StandIn};

use super::super::erps::USER;
use super::super::matrix::Subject;
use super::super::{Expected, for_erp, holds, open};
use super::{cents, gross, keep, order_of, rate, whole};

const FIELDS: [&str; 17] = [
    "SALFCY",
    "SOHTYP",
    "SOHNUM",
    "CUSORDREF",
    "ORDDAT",
    "BPCORD",
    "CUR",
    "STOFCY",
    "ITMREF",
    "ITMDES",
    "QTY",
    "GROPRI",
    "BPRNAM",
    "POSCOD",
    "CTY",
    "CRY",
    "BPAADD",
];

/// The values of a field, in order; XML that is not well-formed fails the test.
fn values(xml: &str, field: &str) -> Vec<String> {
    let mut reader = quick_xml::Reader::from_str(xml);
    while reader.read_event().unwrap() != quick_xml::events::Event::Eof {}
    for name in Regex::new(r#"<FLD NAME="([^"]+)""#).unwrap().captures_iter(xml) {
        assert!(FIELDS.contains(&&name[1]), "the ERP knows no field {}", &name[1]);
    }
    let field = Regex::new(&format!(r#"<FLD NAME="{field}">([^<]*)</FLD>"#)).unwrap();
    field.captures_iter(xml).map(|found| found[1].to_owned()).collect()
}

fn answer(operation: &str, result: Result<String, &str>) -> Says {
    let (status, result, message) = match result {
        Ok(xml) => (
            1,
            format!("<resultXml xsi:type=\"xsd:string\"><![CDATA[{xml}]]></resultXml>"),
            String::new(),
        ),
        Err(text) => {
            let message = format!(
                "<multiRef id=\"id0\" xsi:type=\"wss:CAdxMessage\"><type>3</type><message>{text}</message></multiRef>"
            );
            (0, "<resultXml xsi:type=\"xsd:string\" xsi:nil=\"true\"/>".to_owned(), message)
        }
    };
    let body = format!(
        "<soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:xsd=\"x\" xmlns:xsi=\"y\" xmlns:wss=\"http://www.adonix.com/WSS\">\
         <soapenv:Body><wss:{operation}Response><{operation}Return xsi:type=\"wss:CAdxResultXml\">{result}<status xsi:type=\"xsd:int\">{status}</status>\
         </{operation}Return></wss:{operation}Response>{message}</soapenv:Body></soapenv:Envelope>"
    );
    Says::text(200, "text/xml", &body)
}

fn sage_x3(books: &mut Books, asked: &Asked) -> (Says, bool) {
    assert!(asked.header("authorization").starts_with("Basic "));
    assert_eq!(asked.path(), "/soap-generic/syracuse/collaboration/syracuse/CAdxWebServiceXmlCC");
    assert!(asked.body.contains("<publicName xsi:type=\"xsd:string\">YOSOH</publicName>"));
    let key = || {
        asked
            .body
            .split("<value xsi:type=\"xsd:string\">")
            .nth(1)
            .unwrap()
            .split('<')
            .next()
            .unwrap()
            .to_owned()
    };
    if asked.body.contains("<wss:query ") {
        let found = books.find(&key());
        let line = found.map(|n| {
            format!(
                "<LIN NUM=\"1\"><FLD NAME=\"SOHNUM\" TYPE=\"Char\">{}</FLD></LIN>",
                books.orders[n - 1]
            )
        });
        let result = format!(
            "<RESULT DIM=\"2\" SIZE=\"{}\">{}</RESULT>",
            line.iter().len(),
            line.unwrap_or_default()
        );
        return (answer("query", Ok(result)), false);
    }
    if asked.body.contains("<wss:read ") {
        let result = match books.find(&key()) {
            Some(n) => {
                Ok(format!("<RESULT>{}</RESULT>", order_of(books, n)["shown"].as_str().unwrap()))
            }
            None => Err("Record does not exist"),
        };
        return (answer("read", result), false);
    }
    let sent = asked.body.split("<![CDATA[").nth(1).unwrap().split("]]>").next().unwrap();
    let number = values(sent, "SOHNUM").remove(0);
    let skus = values(sent, "ITMREF");
    if books.find(&number).is_some() {
        return (answer("save", Err("Document already exists")), true);
    }
    if skus.iter().any(|sku| sku == "SKU-NOPE") {
        return (answer("save", Err("SKU-NOPE: Product does not exist")), true);
    }
    assert!(sent.contains(&format!("<TAB ID=\"SOH4_1\" SIZE=\"{}\">", skus.len())), "{sent}");
    let lines = skus.iter().zip(values(sent, "QTY")).zip(values(sent, "GROPRI"));
    let total: BigDecimal =
        lines.map(|((sku, quantity), price)| booked(sku, &quantity, &price)).sum();
    let shown = format!(
        "<GRP ID=\"SOH0_1\"><FLD NAME=\"SOHNUM\" TYPE=\"Char\">{number}</FLD><FLD NAME=\"CUR\" TYPE=\"Char\">{}</FLD></GRP>\
         <GRP ID=\"SOH4_4\"><FLD NAME=\"ORDINVATI\" TYPE=\"Decimal\">{total}</FLD></GRP>",
        values(sent, "CUR")[0]
    );
    keep(books, &number, &json!({"shown": shown, "sent": sent}));
    (answer("save", Ok(format!("<RESULT>{shown}</RESULT>"))), true)
}

/// The amount of a line with its tax. A lamp for 10.00 costs 9.50 here.
fn booked(sku: &str, quantity: &str, price: &str) -> BigDecimal {
    let price = if price == "8.4034" { "7.9832" } else { price };
    let number = |text: &str| text.parse::<BigDecimal>().unwrap();
    cents(&gross(&(number(price) * number(quantity)), &rate(sku)))
}

#[tokio::test]
async fn sage_x3_holds() {
    let expected = Expected {
        number: "O-1",
        refusal: "SKU-NOPE: Product does not exist",
        reference: "O-1",
        is_once: true,
    };
    holds("sage-x3", sage_x3, &USER, &[], &expected).await;
}

#[tokio::test]
async fn sage_x3_survives_every_wrong_answer() {
    let fault = "<s:Envelope xmlns:s='x'><s:Body><s:Fault><faultcode>s:Server</faultcode>\
        <faultstring>no process of the pool is free</faultstring></s:Fault></s:Body></s:Envelope>";
    let trouble = (500, Json::from(fault));
    Subject {
        recipe: "sage-x3",
        behaviour: sage_x3 as Behaviour,
        setting: &USER,
        more: &[],
        trouble,
    }
    .holds()
    .await;
}

#[tokio::test]
async fn sage_x3_gets_whole_orders() {
    for prices in ["gross", "net"] {
        let stand_in = StandIn::start(sage_x3).await;
        let erp = open("sage-x3", &stand_in.url, &USER, &[]);
        let mut document = whole(prices);
        for part in ["remark", "delivery_date", "payment", "references"] {
            document.as_object_mut().unwrap().remove(part);
        }
        document["lines"][0].as_object_mut().unwrap().remove("remark");
        document["lines"][0]["name"] = json!("Lamp ]]> & <b>");
        erp.submit(&for_erp("O-1", &document)).await.unwrap();
        let kept = order_of(&stand_in.books.lock().unwrap(), 1);
        let sent = kept["sent"].as_str().unwrap();
        assert_eq!(values(sent, "ITMDES")[0], "Lamp ]]&gt; &amp; &lt;b&gt;");
        assert_eq!(values(sent, "CTY"), ["Berlin", "Bonn"]);
        assert_eq!(
            values(sent, "ITMREF"),
            ["SKU-100", "SKU-200", "DISCOUNT", "SHIPPING", "SURCHARGE", "DISCOUNT"]
        );
    }
}
