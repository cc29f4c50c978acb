"""A server that speaks as much of Weights & Biases' protocol as uploading a run needs, and keeps what it was sent."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml


class FakeWandb:
    """Runs by id: `history` (line number -> row), `exit_code`, `summary`, `upserts`, and all `requests`.

    Attributes:
        refuse: answer every request to upload history with this status, if it is not None.
        sweep: configuration of the one sweep; commands: what its agent is told, one a heartbeat.
        stopped: ids of runs that were asked to stop.
    """

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.refuse: int | None = None
        self.sweep: dict[str, Any] = {}
        self.commands: list[dict[str, Any]] = []
        self.stopped: set[str] = set()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Content-Encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                self._send(*fake.answer(self.path, json.loads(body or b"{}")))

            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self._send(200, {})

            def do_GET(self) -> None:
                self._send(200, {})

            def _send(self, status: int, value: Any) -> None:
                text = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # a client that leaves is none
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/graphql":
            return 200, {"data": self._graphql(body["query"], body.get("variables") or {})}
        stream = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", path)
        if stream is None:
            return 200, {}
        self.requests.append("file_stream")
        if self.refuse is not None:
            return self.refuse, {"error": "not now"}
        run = self.runs[stream[1]]
        chunk = (body.get("files") or {}).get("wandb-history.jsonl")
        if chunk:
            for number, line in enumerate(chunk["content"], chunk["offset"]):
                run["history"][number] = json.loads(line)
        summary = (body.get("files") or {}).get("wandb-summary.json")
        if summary:
            run["summary"] = json.loads(summary["content"][-1])
        run["exit_code"] = (
            body.get("exitcode", run["exit_code"]) if body.get("complete") else run["exit_code"]
        )
        run["preempting"] = run["preempting"] or bool(body.get("preempting"))
        return 200, {}

    def _graphql(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        name = re.search(r"(?:query|mutation)\s+(\w+)", query)
        self.requests.append(name[1] if name else "?")
        if "viewer" in query:
            return {
                "viewer": {
                    "id": "me",
                    "entity": "me",
                    "username": "me",
                    "flags": "{}",
                    "teams": {"edges": []},
                }
            }
        if "SweepWithRuns" in query:
            sweep = {
                "id": "1",
                "name": given["sweep"],
                "config": json.dumps(self.sweep),
                "runs": {"edges": []},
            }
            return {"project": {"sweep": sweep}}
        if "UpsertSweep" in query:
            self.sweep = yaml.safe_load(given["config"])
            project = {"id": "1", "name": given["projectName"], "entity": {"id": "1", "name": "team"}}
            sweep = {"name": "sweepabc", "project": project}
            return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}
        if "CreateAgent" in query:
            return {"createAgent": {"agent": {"id": "1"}}}
        if "Heartbeat" in query:
            told = [self.commands.pop(0)] if self.commands else []
            return {"agentHeartbeat": {"agent": {"id": "1"}, "commands": json.dumps(told)}}
        if "stopped" in query:
            run_id = given.get("run") or given.get("runId")
            return {"project": {"run": {"stopped": run_id in self.stopped}}}
        if "parquetHistory" in query:  # nothing was exported: the client asks for pages
            live = [*self.runs[given["runName"]]["history"].values()]
            return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": live}}}}
        if "HistoryPage" in query:
            rows = [row for _, row in sorted(self.runs[given["run"]]["history"].items())]
            page = [json.dumps(row) for row in rows if given["minStep"] <= row["_step"] < given["maxStep"]]
            return {"project": {"run": {"history": page}}}
        if "historyKeys" in query:
            run = self.runs.get(given["name"])
            return {"project": {"run": run and self._whole(given["name"], run)}}
        if "upsertBucket" in query:
            run = self.runs.setdefault(
                given["name"],
                {"history": {}, "summary": {}, "exit_code": None, "preempting": False, "upserts": []},
            )
            run["upserts"].append(given)
            project = {"id": "1", "name": given["project"], "entity": {"id": "1", "name": "me"}}
            bucket = {
                "id": "1",
                "name": given["name"],
                "displayName": given.get("displayName"),
                "project": project,
            }
            bucket |= {"description": None, "config": given.get("config"), "sweepName": given.get("sweep")}
            bucket |= {"historyLineCount": len(run["history"])}
            return {"upsertBucket": {"bucket": bucket, "inserted": len(run["upserts"]) == 1}}
        if "bucket(" in query:
            run = self.runs.get(given["name"])
            return {
                "model": {
                    "id": "1",
                    "name": given["project"],
                    "entity": {"id": "1", "name": "me"},
                    "bucket": run and self._bucket(given["name"], run),
                }
            }
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.url}/put/{name}"} for name in given["files"]]
            return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
        if "serverInfo" in query:
            return {"serverInfo": {"features": []}}
        return {}

    def _bucket(self, name: str, run: dict[str, Any]) -> dict[str, Any]:
        lines = [json.dumps(run["history"][number]) for number in sorted(run["history"])]
        return {
            "id": "1",
            "name": name,
            "displayName": name,
            "summaryMetrics": json.dumps(run["summary"]),
            "logLineCount": 0,
            "historyLineCount": len(lines),
            "eventsLineCount": 0,
            "historyTail": json.dumps(lines[-1:]),
            "eventsTail": "[]",
            "config": "{}",
            "tags": [],
            "notes": "",
            "wandbConfig": '{"t": 1}',
        }

    def _whole(self, name: str, run: dict[str, Any]) -> dict[str, Any]:
        last = max((row["_step"] for row in run["history"].values()), default=-1)
        about = {
            "id": "1",
            "name": name,
            "displayName": name,
            "state": "finished",
            "config": "{}",
            "tags": [],
        }
        about |= {"summaryMetrics": json.dumps(run["summary"]), "systemMetrics": "{}", "projectId": "1"}
        return {**about, "historyKeys": {"lastStep": last}, "historyLineCount": len(run["history"])}
