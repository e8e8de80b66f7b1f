#!/usr/bin/env bash
# Submits orders by HTTP, for a checkout without AMQP:
#
#   export ORDER_RELAY_TOKEN=$(order-relay tokens create checkout --scope orders:publish)
#   examples/curl.sh
#
# ORDER_RELAY_URL is where order-relay listens [http://127.0.0.1:8080]. 202 means that the orders are
# stored. After any other answer send them again: an order that arrives twice is accepted once.
set -euo pipefail
cd "$(dirname "$0")"
url=${ORDER_RELAY_URL:-http://127.0.0.1:8080}
: "${ORDER_RELAY_TOKEN:?make one with: order-relay tokens create checkout --scope orders:publish}"

post() { # TYPE FILE
  curl --fail-with-body --silent --show-error --max-time 60 --retry 3 \
    -H "Authorization: Bearer $ORDER_RELAY_TOKEN" -H "Content-Type: $1" \
    --data-binary "@$2" "$url/api/v1/orders"
  echo
}

post application/json order.json
post application/x-ndjson orders.ndjson
