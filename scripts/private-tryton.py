"""The parts of private-tryton that speak to its database; it runs them in its own environment."""

import datetime, json, secrets, sys
from decimal import Decimal


def connect(postgres, database):
    import psycopg

    return psycopg.connect(f"{postgres}/{database}".replace("postgres:", "postgresql:", 1), autocommit=True)


def make_database(postgres, name):
    with connect(postgres, "postgres") as db:
        if not db.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            db.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")


def count(postgres, name, reference):
    with connect(postgres, name) as db:
        query = "SELECT count(*) FROM sale_sale WHERE reference = %s OR web_id = %s"
        print(db.execute(query, [reference, reference]).fetchone()[0])


def show(postgres, name, reference):
    query = """SELECT json_build_object('id', s.id, 'number', s.number, 'state', s.state, 'lines',
          (SELECT json_agg(json_build_array(p.code, l.quantity, l.unit_price) ORDER BY l.id)
           FROM sale_line l LEFT JOIN product_product p ON p.id = l.product WHERE l.sale = s.id))
        FROM sale_sale s WHERE s.reference = %s OR s.web_id = %s ORDER BY s.id"""
    with connect(postgres, name) as db:
        for (sale,) in db.execute(query, [reference, reference]):
            print(json.dumps(sale))


def order(postgres, name, reference):
    """The order as scripts/test-orders compares it."""
    query = """SELECT json_build_object('total', s.total_amount_cache::text, 'currency', c.code, 'is_draft', s.state = 'draft',
          'date', s.sale_date, 'wished', s.shipping_date, 'texts', s.comment,
          'delivery', json_build_object('name', d.party_name, 'city', d.city), 'invoice', json_build_object('city', i.city),
          'customer', json_build_object('id', p.id, 'name', p.name, 'email',
            (SELECT m.value FROM party_contact_mechanism m WHERE m.party = p.id AND m.type = 'email')),
          'lines', (SELECT json_agg(json_build_object('quantity', l.quantity::text, 'text', concat_ws(' ', l.description, l.note))
             ORDER BY l.sequence, l.id) FROM sale_line l WHERE l.sale = s.id))
        FROM sale_sale s JOIN currency_currency c ON c.id = s.currency JOIN party_party p ON p.id = s.party
          LEFT JOIN party_address d ON d.id = s.shipment_address LEFT JOIN party_address i ON i.id = s.invoice_address
        WHERE s.web_id = %s"""
    with connect(postgres, name) as db:
        print(json.dumps([found for (found,) in db.execute(query, [reference])]))


def expire_sessions(postgres, name, _):
    with connect(postgres, name) as db:
        db.execute("DELETE FROM ir_session")


def allow_connections(postgres, name, allowed):
    with connect(postgres, "postgres") as db:
        db.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}")
        if not allowed:
            db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])


def fill(config_file, name, ids, version):
    """A company with its accounts, customers, articles with and without tax, currencies, a web shop and a user that may
    sell: what the scripts and examples/order.json need."""
    from proteus import Model, Wizard, config

    settings = config.set_trytond(name, config_file=config_file)
    from trytond.modules.account.tests.tools import create_chart, create_fiscalyear, get_accounts
    from trytond.modules.account_invoice.tests.tools import (
        create_payment_term, set_fiscalyear_invoice_sequences)
    from trytond.modules.company.tests.tools import create_company

    def one(model, *domain):
        return Model.get(model).find(list(domain), limit=1)[0]

    def make(model, **values):
        record = Model.get(model)(**values)
        record.save()
        return record

    Module = Model.get("ir.module")
    Module.click(Module.find([("name", "in", ["sale", "web_shop"])]), "activate")
    Wizard("ir.module.activate_upgrade").execute("upgrade")
    currency = make("currency.currency", name="Euro", symbol="€", code="EUR", rounding=Decimal("0.01"))
    dollar = make("currency.currency", name="US Dollar", symbol="$", code="USD", rounding=Decimal("0.01"))
    for of, rate in ((currency, "1.0"), (dollar, "1.1")):
        make("currency.currency.rate", date=datetime.date.min, rate=Decimal(rate), currency=of)
    make("country.country", name="Germany", code="DE")
    create_company(party=make("party.party", name="Relay GmbH"), currency=currency)
    company, User = one("company.company"), Model.get("res.user")
    settings._context = User.get_preferences(True, {})
    create_chart(company)
    accounts = get_accounts(company)
    set_fiscalyear_invoice_sequences(create_fiscalyear(company)).click("create_period")
    create_payment_term().save()
    for code, name_ in (("C-1001", 'Beta Großhandel & Söhne "Nord"'), ("C-1002", "Alpha Handel")):
        party = Model.get("party.party")(name=name_, code=code, customer_payment_term=one("account.invoice.payment_term"))
        address = party.addresses[0] if party.addresses else party.addresses.new()
        address.street, address.postal_code, address.city = "Hauptstraße 1", "10115", "Berlin"
        party.save()
    categories = {}
    for rate in ("0", "19", "7"):
        category = Model.get("product.category")(
            name=f"Goods, {rate} %", accounting=True, account_expense=accounts["expense"], account_revenue=accounts["revenue"])
        if rate != "0":
            category.customer_taxes.append(make(
                "account.tax", name=f"{rate} %", description=f"{rate} %", type="percentage", rate=Decimal(rate) / 100,
                company=company, invoice_account=accounts["tax"], credit_note_account=accounts["tax"]))
        category.save()
        categories[rate] = category
    unit, kilogram = one("product.uom", ("name", "=", "Unit")), one("product.uom", ("name", "=", "Kilogram"))
    kilogram.digits, kilogram.rounding = 3, 0.001
    kilogram.save()
    for sku, kind, rate, uom in (
            ("SKU-100", "goods", "0", unit), ("SKU-19", "goods", "19", unit), ("SKU-7", "goods", "7", unit),
            ("SKU-KG", "goods", "19", kilogram), ("4711", "goods", "19", unit), ("4712", "goods", "19", unit),
            ("SHIPPING", "service", "19", unit), ("DISCOUNT", "service", "19", unit), ("SURCHARGE", "service", "19", unit)):
        template = make(
            "product.template", name=f"Article {sku}", type=kind, default_uom=uom, salable=True,
            list_price=Decimal("10.00"), account_category=categories[rate])
        (product,) = template.products
        product.suffix_code = sku
        product.save()
    shop = make("web.shop", name="Relay shop", company=company, currency=currency)
    user = User(name="relay", login="relay", password="relay-password")
    for group in Model.get("res.group").find([("name", "in", ["Sales", "Web Shop"])]):
        user.groups.append(group)
    user.companies.append(company)
    user.company = one("company.company")
    user.save()
    key = ""
    if version != "7.0":
        application = make("res.user.application", key=secrets.token_hex(32), application="rest", user=user)
        if application.state != "validated":
            application.click("validate_")
        key = f" TRYTON_KEY={application.key}"
    with open(ids, "w") as file:
        file.write(f"export TRYTON_COMPANY={company.id} TRYTON_WEB_SHOP={shop.id}{key}\n")


verb, arguments = sys.argv[1], sys.argv[2:]
match verb:
    case "make-database": make_database(*arguments)
    case "fill": fill(*arguments)
    case "count": count(*arguments)
    case "show": show(*arguments)
    case "order": order(*arguments)
    case "expire-sessions": expire_sessions(*arguments)
    case "db-down": allow_connections(*arguments[:2], False)
    case "db-up": allow_connections(*arguments[:2], True)
    case _: sys.exit(f"private-tryton.py: unknown verb {verb}")
