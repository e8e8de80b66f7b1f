# The master data of private-odoo: what the scripts and examples/order.json need. It is read by Odoo's own shell, which
# gives `env`, and writes the variables for the scripts to the file that IDS names.
import datetime
import os

company, germany, eur = env.company, env.ref("base.de"), env.ref("base.EUR")
usd = env.ref("base.USD")
(eur | usd).active = True
company.write({"name": "Relay GmbH", "country_id": germany.id, "currency_id": eur.id})
env["res.currency.rate"].create({"name": "2020-01-01", "currency_id": usd.id, "company_id": company.id, "rate": 1.1})
for currency in (eur, usd):
    env["product.pricelist"].create({"name": currency.name, "currency_id": currency.id})

for ref, name in (("C-1001", 'Beta Großhandel & Söhne "Nord"'), ("C-1002", "Alpha Handel")):
    env["res.partner"].create({
        "name": name, "ref": ref, "is_company": True, "street": "Hauptstraße 1", "zip": "10115", "city": "Berlin",
        "country_id": germany.id, "email": f"{ref.lower()}@example.invalid"})

group = env["account.tax.group"].create({"name": "Taxes", "country_id": germany.id})
taxes = {"0": env["account.tax"]}
for rate in ("19", "7"):
    for name, included in (("net", "tax_excluded"), ("gross", "tax_included")):
        tax = env["account.tax"].create({
            "name": f"{rate} % {name}", "amount": float(rate), "amount_type": "percent", "type_tax_use": "sale",
            "price_include_override": included, "country_id": germany.id, "tax_group_id": group.id})
        if name == "net":
            taxes[rate] = tax

for sku, kind, rate in (
        ("SKU-100", "consu", "0"), ("SKU-19", "consu", "19"), ("SKU-7", "consu", "7"), ("SKU-KG", "consu", "19"),
        ("4711", "consu", "19"), ("4712", "consu", "19"),
        ("SHIPPING", "service", "0"), ("DISCOUNT", "service", "0"), ("SURCHARGE", "service", "0")):
    env["product.product"].create({
        "name": f"Article {sku}", "default_code": sku, "type": kind, "list_price": 10.0, "sale_ok": True,
        "taxes_id": [(6, 0, taxes[rate].ids)]})


def key_of(login, *groups):
    user = env["res.users"].create({
        "name": login, "login": login, "password": "relay-password", "company_id": company.id,
        "company_ids": [(6, 0, [company.id])], "group_ids": [(6, 0, [env.ref(group).id for group in groups])]})
    until = datetime.datetime.now() + datetime.timedelta(days=365)
    return env["res.users.apikeys"].with_user(user).sudo()._generate("rpc", "relay", until)


relay = key_of("relay", "base.group_user", "base.group_partner_manager", "sales_team.group_sale_salesman_all_leads")
nosales = key_of("nosales", "base.group_user")
env.cr.commit()
with open(os.environ["IDS"], "w") as file:
    file.write(
        f"export ERP_USER=relay ERP_PASSWORD=relay-password ERP_KEY={relay} ERP_KEY_WITHOUT_RIGHTS={nosales}\\\n"
        " ERP_CUSTOMER=C-1001 ERP_SKU=SKU-100 ERP_SKUS=SKU-19,SKU-7,SKU-KG\n")
