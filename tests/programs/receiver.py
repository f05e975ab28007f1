"""A receiver of what is shipped: syslog (RFC 5424, each message after its length) or OTLP logs over HTTP.

    receiver.py syslog|otlp PORT OUT MODE [CERTIFICATE KEY]

Everything that is taken becomes a line of JSON in OUT: log, index, last (of a gap), line. What is not as the public text says ends the
program, after a line with "fault". MODE is a file that says how to behave, read anew for each connection, request or message:

    take            as it should be
    refuse          hang up at once
    stall           take a connection, and nothing from it
    cut             hang up in the middle: of a message, or of an answer
    STATUS SECONDS  answer that status, with Retry-After (OTLP)
    html            answer 200 with a page (OTLP)
    most N          answer 413 to more than N entries (OTLP)
    partial N       reject the first N entries of a request (OTLP)

With CLIENT_CA in the environment, whoever comes must show a certificate of that authority; with TOKEN, that bearer token (OTLP).
"""

import http.server
import json
import os
import re
import socket
import socketserver
import ssl
import struct
import sys
import threading
import time

LOCK = threading.Lock()


def main():
    kind, port, out, mode = sys.argv[1:5]
    server = {"syslog": Syslog, "otlp": Otlp}[kind](("127.0.0.1", int(port)), out, mode)
    if len(sys.argv) > 5:
        server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.tls.load_cert_chain(sys.argv[5], sys.argv[6])
        if authority := os.environ.get("CLIENT_CA"):
            server.tls.verify_mode = ssl.CERT_REQUIRED
            server.tls.load_verify_locations(authority)
    server.serve_forever()


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    tls = None

    def __init__(self, address, out, mode):
        self.out, self.mode_file = out, mode
        super().__init__(address, self.handler)

    def mode(self):
        with open(self.mode_file) as file:
            return file.read().split()

    def take(self, entry):
        with LOCK, open(self.out, "a") as file:
            file.write(json.dumps(entry) + "\n")

    def fault(self, what):
        self.take({"fault": what})
        os._exit(3)

    def met(self):
        """Notes that somebody came, which a test waits for."""
        with LOCK, open(self.out + ".met", "a") as file:
            file.write(".")

    def stall(self):
        while self.mode() == ["stall"]:
            time.sleep(0.1)

    def secured(self, plain):
        if self.tls is None:
            return plain
        plain.settimeout(30)
        try:
            return self.tls.wrap_socket(plain, server_side=True)
        except OSError:
            # Also whoever only looks whether the port is open.
            return None


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# --- syslog ---------------------------------------------------------------------------------------------------------------------------

HEADER = re.compile(
    rb"<(0|[1-9][0-9]{0,2})>1 "
    rb"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{1,6}Z) "
    rb"([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) "
)
SD_ID = re.compile(rb"\[([!#-<>-\\^-~]{1,32})")
SD_PARAM = re.compile(rb' ([!#-<>-\\^-~]{1,32})="((?:[^"\\\]]|\\["\\\]])*)"')
MARK = b"\xef\xbb\xbf"


def parsed(message):
    """What a message says; ValueError where it is not as RFC 5424 says."""
    header = HEADER.match(message)
    if not header or int(header[1]) > 191:
        raise ValueError("the header")
    at = header.end()
    element = SD_ID.match(message, at)
    if not element:
        raise ValueError("the structured data")
    at, data = element.end(), {}
    while param := SD_PARAM.match(message, at):
        value = re.sub(rb"\\(.)", rb"\1", param[2]).decode("utf-8")
        data[param[1].decode()] = value
        at = param.end()
    if message[at : at + 2] != b"] ":
        raise ValueError("the end of the structured data")
    text = message[at + 2 :]
    if text.startswith(MARK):
        text = text[len(MARK) :]
    elif not text.isascii():
        raise ValueError("text that is not ASCII and has no mark")
    if any(byte < 32 for byte in text):
        raise ValueError("a control character")
    return {
        "priority": int(header[1]),
        "at": header[2].decode(),
        "host": header[3].decode(),
        "kind": header[6].decode(),
        "sd": element[1].decode(),
        "data": data,
        "line": text.decode("utf-8"),
    }


class SyslogPeer(socketserver.BaseRequestHandler):
    def handle(self):
        server = self.server
        mode = server.mode()
        if mode == ["refuse"]:
            server.met()
            return reset(self.request)
        connection = server.secured(self.request)
        if connection is None:
            return None
        server.met()
        if mode == ["stall"]:
            server.stall()
            return reset(connection)
        if mode == ["cut"]:
            # In the middle of a message, and with more on its way.
            connection.recv(50)
            return reset(connection)
        connection.settimeout(600)
        stream = connection.makefile("rb")
        while True:
            digits = b""
            while (byte := stream.read(1)) not in (b" ", b""):
                digits += byte
                if not re.fullmatch(rb"[1-9][0-9]{0,5}", digits):
                    server.fault(f"no length: {digits!r}")
            if not byte:
                return None
            message = stream.read(int(digits))
            if len(message) < int(digits):
                return None
            if server.mode() != ["take"]:
                # What comes from now on is for whoever reads after this one.
                return reset(connection)
            try:
                said = parsed(message)
            except ValueError as error:
                return server.fault(f"{error}: {message!r}")
            data = said.pop("data")
            for name in ("index", "last"):
                if name in data:
                    said[name] = int(data[name])
            server.take({"log": data["log"], **said})


class Syslog(Server):
    handler = SyslogPeer


# --- OTLP -----------------------------------------------------------------------------------------------------------------------------


class OtlpPeer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        secured = self.server.secured(self.request)
        self.gone = secured is None
        if secured is not None:
            self.request = secured
        super().setup()

    def handle(self):
        if not self.gone:
            super().handle()

    def do_POST(self):
        from google.protobuf import json_format
        from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

        server = self.server
        mode = server.mode()
        server.met()
        self.close_connection = True
        if mode == ["refuse"]:
            return reset(self.connection)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if (token := os.environ.get("TOKEN")) and self.headers["Authorization"] != f"Bearer {token}":
            return self.answer(401, f"no such token: {self.headers['Authorization']}".encode(), "text/plain")
        if mode == ["stall"]:
            return server.stall()
        if mode == ["cut"]:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
            return None
        if mode == ["html"]:
            return self.answer(200, b"<html>Please sign in.</html>", "text/html")
        if mode[0].isdigit():
            return self.answer(int(mode[0]), b'{"code":14,"message":"not now"}', wait=mode[1])
        if self.path != "/v1/logs" or self.headers["Content-Type"] != "application/json":
            server.fault(f"{self.path}: {self.headers}")
        request = logs_service_pb2.ExportLogsServiceRequest()
        try:
            json_format.Parse(body, request)
        except json_format.ParseError as error:
            server.fault(f"{error}: {body!r}")
        count = sum(len(it.log_records) for of in request.resource_logs for it in of.scope_logs)
        if mode[0] == "most" and count > int(mode[1]):
            return self.answer(413, b"too large", "text/plain")
        rejected = int(mode[1]) if mode[0] == "partial" else 0
        for resource in request.resource_logs:
            node = values(resource.resource.attributes)["service.instance.id"]
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    if rejected > 0:
                        rejected -= 1
                        continue
                    data = values(record.attributes)
                    entry = {
                        "log": data["portcullis.log"],
                        "index": data["portcullis.index"],
                        "line": record.body.string_value,
                        "kind": record.event_name,
                        "milliseconds": record.time_unix_nano // 1_000_000,
                        "severity": record.severity_text,
                        "host": node,
                    }
                    if "portcullis.last" in data:
                        entry["last"] = data["portcullis.last"]
                    server.take(entry)
        answer = logs_service_pb2.ExportLogsServiceResponse()
        if mode[0] == "partial":
            answer.partial_success.rejected_log_records = int(mode[1])
            answer.partial_success.error_message = "too old"
        self.answer(200, json_format.MessageToJson(answer).encode())

    def answer(self, status, body, kind="application/json", wait=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if wait is not None:
            self.send_header("Retry-After", wait)
        self.end_headers()
        self.wfile.write(body)


def values(attributes):
    return {it.key: getattr(it.value, it.value.WhichOneof("value")) for it in attributes}


class Otlp(Server):
    handler = OtlpPeer


main()
