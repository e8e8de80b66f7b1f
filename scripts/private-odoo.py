"""The parts of private-odoo that speak to its database; it runs them in its own environment."""

import json, sys

import psycopg2


def ask(postgres, database, statement, *values):
    connection = psycopg2.connect(f"{postgres}/{database}".replace("postgres:", "postgresql:", 1))
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def make_database(postgres, name):
    # Odoo refuses to run as the user postgres.
    if not ask(postgres, "postgres", "SELECT 1 FROM pg_roles WHERE rolname = 'odoo'"):
        ask(postgres, "postgres", "CREATE ROLE odoo LOGIN CREATEDB")
    if not ask(postgres, "postgres", "SELECT 1 FROM pg_database WHERE datname = %s", name):
        ask(postgres, "postgres", f"CREATE DATABASE {name} OWNER odoo TEMPLATE template0 ENCODING 'UTF8'")


def count(postgres, name, reference):
    print(ask(postgres, name, "SELECT count(*) FROM sale_order WHERE client_order_ref = %s", reference)[0][0])


def order(postgres, name, reference):
    """The order as scripts/test-orders compares it."""
    partner = "json_build_object('id', {0}.id, 'name', {0}.name, 'city', {0}.city, 'email', {0}.email)".format
    rows = ask(postgres, name, f"""SELECT json_build_object('total', o.amount_total::text, 'currency', c.name,
          'is_draft', o.state IN ('draft', 'sent'), 'date', o.date_order::date, 'wished', o.commitment_date::date,
          'texts', concat_ws(' ', o.note, o.reference, o.origin),
          'delivery', {partner("d")}, 'invoice', {partner("i")}, 'customer', {partner("p")},
          'lines', (SELECT json_agg(json_build_object('quantity', l.product_uom_qty::text, 'text', l.name) ORDER BY l.sequence, l.id)
             FROM sale_order_line l WHERE l.order_id = o.id))
        FROM sale_order o JOIN res_currency c ON c.id = o.currency_id JOIN res_partner p ON p.id = o.partner_id
          JOIN res_partner d ON d.id = o.partner_shipping_id JOIN res_partner i ON i.id = o.partner_invoice_id
        WHERE o.client_order_ref = %s""", reference)
    print(json.dumps([found for (found,) in rows]))


def allow_connections(postgres, name, allowed):
    ask(postgres, "postgres", f"ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}")
    if not allowed:
        ask(postgres, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", name)


verb, arguments = sys.argv[1], sys.argv[2:]
match verb:
    case "make-database": make_database(*arguments)
    case "count": count(*arguments)
    case "order": order(*arguments)
    case "db-down": allow_connections(*arguments[:2], False)
    case "db-up": allow_connections(*arguments[:2], True)
    case _: sys.exit(f"private-odoo.py: unknown verb {verb}")
