"""A language client over stdio, as small as completion, hover and diagnostics allow."""

import json
import os
import pathlib
import queue
import subprocess
import threading
import time


class Server:
    def __init__(self, argv, root, settings, language):
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.answers = queue.Queue()
        self.published = {}
        self.last_id = 0
        self.settings = settings
        self.language = language
        threading.Thread(target=self._read, daemon=True).start()
        uri = pathlib.Path(root).resolve().as_uri()
        text_document = {
            "completion": {"completionItem": {"snippetSupport": True, "documentationFormat": ["markdown", "plaintext"]}},
            "hover": {"contentFormat": ["markdown", "plaintext"]},
            "publishDiagnostics": {"relatedInformation": True},
        }
        self.request("initialize", {
            "processId": os.getpid(),
            "rootUri": uri,
            "workspaceFolders": [{"uri": uri, "name": "root"}],
            "capabilities": {
                "workspace": {"configuration": True, "workspaceFolders": True},
                "textDocument": text_document,
            },
        })
        self.notify("initialized", {})
        self.notify("workspace/didChangeConfiguration", {"settings": settings})

    def request(self, method, params, seconds=60):
        self.last_id += 1
        self._send({"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params})
        while True:
            answer = self.answers.get(timeout=seconds)
            if answer.get("id") == self.last_id:
                if "error" in answer:
                    raise RuntimeError(answer["error"])
                return answer.get("result")

    def notify(self, method, params):
        self._send({"jsonrpc": "2.0", "method": method, "params": params})

    def open(self, path, text):
        """Opens a text under a path, which need not exist; its diagnostics come later."""
        uri = pathlib.Path(path).resolve().as_uri()
        self.published[uri] = queue.Queue()
        document = {"uri": uri, "languageId": self.language, "version": 1, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": document})
        return uri

    def close(self, uri):
        """Closes a text, which the server then need not look through for faults."""
        self.notify("textDocument/didClose", {"textDocument": {"uri": uri}})

    def diagnostics(self, uri, seconds=60):
        return self.published[uri].get(timeout=seconds)

    def complete(self, uri, line, column):
        position = {"line": line, "character": column}
        answer = self.request("textDocument/completion", {"textDocument": {"uri": uri}, "position": position})
        return answer["items"] if isinstance(answer, dict) else (answer or [])

    def hover(self, uri, line, column):
        position = {"line": line, "character": column}
        answer = self.request("textDocument/hover", {"textDocument": {"uri": uri}, "position": position})
        contents = (answer or {}).get("contents") or ""
        return contents.get("value", "") if isinstance(contents, dict) else str(contents)

    def stop(self):
        self.request("shutdown", None)
        self.notify("exit", None)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def _send(self, message):
        body = json.dumps(message).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.process.stdin.flush()

    def _read(self):
        stream = self.process.stdout
        while True:
            length = None
            while line := stream.readline():
                if not line.strip():
                    break
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            if length is None:
                return
            message = json.loads(stream.read(length))
            if "method" in message and "id" in message:
                self._answer(message)
            elif message.get("method") == "textDocument/publishDiagnostics":
                waiting = self.published.get(message["params"]["uri"])
                if waiting is not None:
                    waiting.put(message["params"]["diagnostics"])
            elif "method" not in message:
                self.answers.put(message)

    def _answer(self, message):
        result = None
        if message["method"] == "workspace/configuration":
            result = [self._setting(item.get("section") or "") for item in message["params"]["items"]]
        self._send({"jsonrpc": "2.0", "id": message["id"], "result": result})

    def _setting(self, section):
        value = self.settings
        for part in filter(None, section.split(".")):
            value = value.get(part) if isinstance(value, dict) else None
        return value


def cursor(text, mark="‸"):
    """The text without its mark, and the line and column of the mark."""
    before, after = text.split(mark)
    return before + after, before.count("\n"), len(before) - (before.rfind("\n") + 1)
