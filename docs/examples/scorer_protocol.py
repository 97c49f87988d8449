"""The scorer protocol of diffpref (docs/scorer-protocol.md), over pipes and HTTP. Python 3.9, standard library only.

A scorer is a description, a function for "score" and, if it compares, a function for "compare":

    serve({"name": "mine", "version": "1", "measures": [{"name": "beauty"}]}, score=lambda items, timestep: ...)
"""

import argparse
import base64
import json
import os
import struct
import sys
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def serve(description, score=None, compare=None):
    """Answers requests: lines of standard input, or POSTs with --port.

    score(items, timestep): one list of numbers per item; an item has "prompt" and "picture".
    compare(items): one probability per item that "first" is better than "second".
    """
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, help="answer HTTP requests on this port instead of standard input")
    port = arguments.parse_args().port
    verbs = [verb for verb, function in (("score", score), ("compare", compare)) if function]
    described = {"protocol": 1, "verbs": verbs, **description}

    def answer(text):
        request = json.loads(text)
        try:
            if request["verb"] == "describe":
                return described
            if request["verb"] == "score":
                return {"id": request["id"], "scores": score(request["items"], request["timestep"])}
            return {"id": request["id"], "probabilities": compare(request["items"])}
        except Exception as error:  # The caller reports it and stops.
            return {"id": request.get("id"), "error": f"{type(error).__name__}: {error}"}

    if port is None:
        of_pipes(answer)
    else:
        of_http(answer, port)


def of_pipes(answer):
    # Libraries print to standard output: answers get a copy of it, and prints go to standard error.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(answer(line)), file=answers, flush=True)


def of_http(answer, port):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            text = self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(answer(text)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"serving on http://127.0.0.1:{server.server_address[1]}/", file=sys.stderr, flush=True)
    server.serve_forever()


def png(picture):
    """Bytes of a picture's PNG file."""
    if "png" in picture:
        return base64.b64decode(picture["png"])
    with open(picture["file"], "rb") as file:
        return file.read()


def pixels(picture):
    """(width, height, bytes of RGB rows) of a picture, which diffpref sends as 8-bit RGB without interlacing."""
    data, at, packed, size = png(picture), 8, b"", None
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        chunk = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            size = struct.unpack(">IIBBBBB", chunk)
        packed += chunk if kind == b"IDAT" else b""
        at += length + 12
    width, height, depth, colour, _, _, interlaced = size
    if (depth, colour, interlaced) != (8, 2, 0):
        raise ValueError(f"expected 8-bit RGB, found depth {depth}, colour type {colour}, interlacing {interlaced}")
    raw, stride = zlib.decompress(packed), 3 * width
    rows, above = [], bytearray(stride)
    for y in range(height):
        begin = y * (stride + 1)
        above = unfiltered(raw[begin], bytearray(raw[begin + 1 : begin + 1 + stride]), above)
        rows.append(bytes(above))
    return width, height, b"".join(rows)


def unfiltered(kind, row, above):
    """A row of a PNG without its filter; `above` is the row before it."""
    for i in range(len(row)):
        a, b, c = (row[i - 3] if i >= 3 else 0), above[i], (above[i - 3] if i >= 3 else 0)
        if kind == 4:
            p = a + b - c
            guess = min((a, b, c), key=lambda value: abs(p - value))
        else:
            guess = (0, a, b, (a + b) // 2)[kind]
        row[i] = (row[i] + guess) & 255
    return row
