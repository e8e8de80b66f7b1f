"""The parts of private-tryton that speak to its database; it runs them in its own environment."""

import datetime, json, sys
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


def expire_sessions(postgres, name, _):
    with connect(postgres, name) as db:
        db.execute("DELETE FROM ir_session")


def allow_connections(postgres, name, allowed):
    with connect(postgres, "postgres") as db:
        db.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}")
        if not allowed:
            db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])


def fill(config_file, name, ids):
    """A company with its accounts, a customer, a product, a web shop and a user that may sell."""
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
    make("currency.currency.rate", date=datetime.date.min, rate=Decimal("1.0"), currency=currency)
    create_company(party=make("party.party", name="Relay GmbH"), currency=currency)
    company, User = one("company.company"), Model.get("res.user")
    settings._context = User.get_preferences(True, {})
    create_chart(company)
    accounts = get_accounts(company)
    set_fiscalyear_invoice_sequences(create_fiscalyear(company)).click("create_period")
    create_payment_term().save()
    party = Model.get("party.party")(
        name='Beta Großhandel & Söhne "Nord"', code="C-1001",
        customer_payment_term=one("account.invoice.payment_term"))
    address = party.addresses[0] if party.addresses else party.addresses.new()
    address.street, address.postal_code, address.city = "Hauptstraße 1", "10115", "Berlin"
    party.save()
    category = make(
        "product.category", name="Goods", accounting=True,
        account_expense=accounts["expense"], account_revenue=accounts["revenue"])
    template = make(
        "product.template", name="Widget", type="goods", default_uom=one("product.uom", ("name", "=", "Unit")),
        salable=True, list_price=Decimal("10.00"), account_category=category)
    (product,) = template.products
    product.suffix_code = "SKU-100"
    product.save()
    shop = make("web.shop", name="Relay shop", company=company, currency=currency)
    user = User(name="relay", login="relay", password="relay-password")
    for group in Model.get("res.group").find([("name", "in", ["Sales", "Web Shop"])]):
        user.groups.append(group)
    user.companies.append(company)
    user.company = one("company.company")
    user.save()
    with open(ids, "w") as file:
        file.write(f"export TRYTON_COMPANY={company.id} TRYTON_WEB_SHOP={shop.id}\n")


verb, arguments = sys.argv[1], sys.argv[2:]
match verb:
    case "make-database": make_database(*arguments)
    case "fill": fill(*arguments)
    case "count": count(*arguments)
    case "show": show(*arguments)
    case "expire-sessions": expire_sessions(*arguments)
    case "db-down": allow_connections(*arguments[:2], False)
    case "db-up": allow_connections(*arguments[:2], True)
    case _: sys.exit(f"private-tryton.py: unknown verb {verb}")
