#!/usr/bin/env python3
"""Publishes orders the way a shop's checkout should, with pika (pip install pika).

    publish_pika.py order.json               one order
    publish_pika.py < orders.ndjson          one order per line

The broker is AMQP_URL [amqp://guest:guest@127.0.0.1:5672/%2f], the exchange ORDERS_EXCHANGE or
--exchange [orders]. Ends with 0 only when the broker has confirmed every order. Otherwise publish
them again: an order that arrives twice is accepted once.
"""

import argparse
import os
import sys

import pika
import pika.exceptions


def read_orders(file):
    """Orders as bytes. They are not parsed: that would change digits such as 1999.00."""
    if file:
        with open(file, "rb") as order:
            content = order.read()
        if not file.endswith(".ndjson"):
            return [content]
    else:
        content = sys.stdin.buffer.read()
    return [line for line in content.splitlines() if line.strip()]


def main():
    parser = argparse.ArgumentParser(description="Publishes orders, with confirms.")
    parser.add_argument("file", nargs="?", help="JSON or .ndjson; standard input (NDJSON) without it")
    parser.add_argument("--exchange", default=os.environ.get("ORDERS_EXCHANGE", "orders"))
    arguments = parser.parse_args()

    orders = read_orders(arguments.file)
    url = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
    confirmed = 0
    try:
        connection = pika.BlockingConnection(pika.URLParameters(url))
        channel = connection.channel()
        # From here on basic_publish waits for the broker's confirm and raises when there is none.
        channel.confirm_delivery()
        for order in orders:
            channel.basic_publish(
                exchange=arguments.exchange,
                routing_key="order.placed",
                body=order,
                properties=pika.BasicProperties(
                    content_type="application/json",
                    delivery_mode=pika.DeliveryMode.Persistent,
                ),
                mandatory=True,
            )
            confirmed += 1
        connection.close()
    except pika.exceptions.AMQPError as error:
        print(f"{confirmed} of {len(orders)} orders confirmed, then: {error!r}", file=sys.stderr)
        return 1
    print(f"{confirmed} orders confirmed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
