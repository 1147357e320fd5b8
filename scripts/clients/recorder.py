"""Hands requests for chat completions on to the simulated judge, and writes down what was asked.

python3 recorder.py SIM_URL REQUESTS URL_FILE: REQUESTS gets one line of JSON a request, the texts of its messages; URL_FILE
gets the address once it listens.
"""

import json
import os
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SIM, REQUESTS, URL_FILE = sys.argv[1:]
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Recorder(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        texts = [message["content"] for message in json.loads(body)["messages"]]
        request = urllib.request.Request(SIM + self.path, data=body, headers={"content-type": "application/json"})
        try:
            with DIRECT.open(request, timeout=30) as reply:
                status, answer = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            status, answer = error.code, error.read()
        with open(REQUESTS, "a", encoding="utf-8") as file:
            file.write(json.dumps(texts) + "\n")
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
with open(URL_FILE + ".new", "w", encoding="utf-8") as out:
    out.write(f"http://127.0.0.1:{server.server_port}")
os.rename(URL_FILE + ".new", URL_FILE)
server.serve_forever()
