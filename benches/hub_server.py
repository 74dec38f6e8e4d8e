"""A hub with one repository, the files of a folder: hub_server.py FOLDER prints its port, and serves until it is killed.

As fast as this machine can, for measurements: files go from the page cache to the socket. What can go wrong between a hub and
its clients is tried by the server of the tests.
"""

import hashlib
import json
import os
import socket
import sys
import threading

FOLDER = sys.argv[1]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1_000_000  # Files from here on are in the hub's large file storage, at another address.


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


SIZES = {name: os.path.getsize(os.path.join(FOLDER, name)) for name in os.listdir(FOLDER)}
DIGESTS = {name: digest(os.path.join(FOLDER, name)) for name, size in SIZES.items() if size >= LARGE}


def listing():
    files = [{"rfilename": name, "size": size} for name, size in SIZES.items()]
    for file in files:
        if file["rfilename"] in DIGESTS:
            file["lfs"] = {"sha256": DIGESTS[file["rfilename"]], "size": file["size"]}
    return json.dumps({"sha": COMMIT, "siblings": files}).encode()


def answer(connection, status, body=b"", *headers):
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def send(connection, name, asked):
    first, last = 0, SIZES[name] - 1
    if asked:
        begin, end = asked.split("=")[1].split("-")
        first, last = int(begin), min(int(end or last), last)
        head = f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{SIZES[name]}\r\n"
    else:
        head = "HTTP/1.1 200 OK\r\n"
    connection.sendall(f"{head}Content-Length: {last + 1 - first}\r\n\r\n".encode())
    with open(os.path.join(FOLDER, name), "rb") as file:
        while first <= last:
            first += os.sendfile(connection.fileno(), file.fileno(), first, last + 1 - first)


def serve(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    requests = connection.makefile("rb")
    try:
        while line := requests.readline():
            path = line.decode().split()[1].split("?")[0]
            headers = {}
            while (field := requests.readline().decode().strip()) != "":
                key, value = field.split(":", 1)
                headers[key.lower()] = value.strip()
            name = path.rsplit("/", 1)[-1]
            if path.startswith("/api/models/"):
                answer(connection, "200 OK", listing())
            elif name not in SIZES:
                answer(connection, "404 Not Found")
            elif name in DIGESTS and not path.startswith("/storage/"):
                answer(connection, "302 Found", b"", f"X-Repo-Commit: {COMMIT}", f"Location: /storage/{name}")
            else:
                send(connection, name, headers.get("range"))
    except ConnectionError:
        pass
    finally:
        connection.close()


def main():
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
