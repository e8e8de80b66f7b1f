#!/usr/bin/env node
// Publishes orders the way a shop's checkout should, with amqplib (npm install amqplib).
//
//     publish_amqplib.mjs order.json               one order
//     publish_amqplib.mjs < orders.ndjson          one order per line
//
// The broker is AMQP_URL [amqp://guest:guest@127.0.0.1:5672/%2f], the exchange ORDERS_EXCHANGE
// [orders]. Ends with 0 only when the broker has confirmed every order. Otherwise publish them again:
// an order that arrives twice is accepted once.

import { readFileSync } from "node:fs";
import amqplib from "amqplib";

const url = process.env.AMQP_URL ?? "amqp://guest:guest@127.0.0.1:5672/%2f";
const exchange = process.env.ORDERS_EXCHANGE ?? "orders";

// Orders as text. They are not parsed: that would change digits such as 1999.00.
function readOrders(file) {
  const content = readFileSync(file ?? 0, "utf8");
  if (file && !file.endsWith(".ndjson")) return [content];
  return content.split("\n").filter((line) => line.trim() !== "");
}

async function publish(orders) {
  const connection = await amqplib.connect(url);
  const channel = await connection.createConfirmChannel();
  let returned = 0;
  let broken = null;
  channel.on("return", () => (returned += 1));
  for (const part of [connection, channel]) part.on("error", (error) => (broken = error));

  // All are in progress at the same time; each promise waits for its own confirm.
  const confirms = orders.map(
    (order) =>
      new Promise((resolve, reject) => {
        const options = { persistent: true, mandatory: true, contentType: "application/json" };
        channel.publish(exchange, "order.placed", Buffer.from(order), options, (error) =>
          error ? reject(error) : resolve(),
        );
      }),
  );
  const results = await Promise.allSettled(confirms);
  const confirmed = results.filter((result) => result.status === "fulfilled").length - returned;
  const failed = results.find((result) => result.status === "rejected");
  if (confirmed < orders.length) {
    const why = broken ?? failed?.reason ?? new Error("no queue takes them");
    throw new Error(`${confirmed} of ${orders.length} orders confirmed, then: ${why.message}`);
  }
  await connection.close();
  return confirmed;
}

try {
  console.log(`${await publish(readOrders(process.argv[2]))} orders confirmed`);
} catch (error) {
  console.error(error.message || String(error));
  process.exit(1);
}
