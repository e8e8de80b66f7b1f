"""A receiver of webhooks for scripts/test-channels: verifies each request with the package standardwebhooks.

Usage: test-channels.py PORT SECRET FILE. It answers 500 to the first failed order, so that it is sent again, and
writes a line of JSON for each request. Each time it also makes sure that a changed body is refused.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

port, secret, path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
seen = set()


def verifies(body, headers):
    try:
        Webhook(secret).verify(body, headers)
        return True
    except WebhookVerificationError:
        return False


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        message = headers["webhook-id"]
        told = {
            "id": message,
            "type": json.loads(body)["type"],
            "verified": verifies(body, headers) and not verifies(body + " ", headers),
            "repeated": message in seen,
        }
        seen.add(message)
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(told) + "\n")
        is_first = told["type"] != "test" and not told["repeated"]
        self.send_response(500 if is_first else 204)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


HTTPServer(("127.0.0.1", port), Receiver).serve_forever()
