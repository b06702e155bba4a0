"""A stand-in for a cluster: the few answers of the Kubernetes API that Snakemake asks for, and pods that are processes.

A pod is the command of its container, in an empty folder of its own with the claims that it mounts, and nothing else of
the caller's folder or environment: what does not travel through the bucket or a claim is not there.
"""

import base64
import json
import os
import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath

NAMES = r"/api(?:s/batch)?/v1/namespaces/[^/?]+/(?P<kind>secrets|jobs|pods)(?:/(?P<name>[^/?]+))?"


class Cluster:
    """The API's answers, and the pods that it started.

    Attributes:
        jobs: Body of each Job as Snakemake sent it, by name, in order.
        logs: What each pod wrote.
        statuses: Exit status of each pod that has ended.
        claims: Folder of each volume claim, by name.
    """

    def __init__(self, folder: Path, path: str, *, is_full: bool = False) -> None:
        """Start it.

        Args:
            folder: Of the pods' folders.
            path: Programs of the pods.
            is_full: Every pod fails at once: only what was asked for is of interest.
        """
        self.folder, self.path, self.is_full = folder, path, is_full
        self.jobs, self.logs, self.statuses, self.claims, self.secrets = {}, {}, {}, {}, {}
        self._pods = ThreadPoolExecutor(max_workers=2)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def write_access(self, file: Path) -> None:
        """Write what kubectl calls a kubeconfig."""
        url = f"http://127.0.0.1:{self._server.server_port}"
        parts = {"clusters": [{"name": "c", "cluster": {"server": url}}], "users": [{"name": "u", "user": {}}]}
        context = [{"name": "x", "context": {"cluster": "c", "user": "u"}}]
        file.write_text(json.dumps({"apiVersion": "v1", **parts, "contexts": context, "current-context": "x"}))

    def close(self) -> None:
        """Wait for the pods, and answer no more."""
        self._pods.shutdown()
        self._server.shutdown()
        self._server.server_close()

    def _run(self, name: str, spec: dict) -> None:
        (container,) = spec["containers"]
        folder = self.folder / name
        folder.mkdir(parents=True)
        claims = {one["name"]: one.get("persistentVolumeClaim") for one in spec["volumes"]}
        for mount in container["volumeMounts"]:
            if claim := claims[mount["name"]]:
                inside = folder / PurePosixPath(mount["mountPath"]).relative_to(container["workingDir"])
                inside.parent.mkdir(parents=True, exist_ok=True)
                inside.symlink_to(self.claims[claim["claimName"]])
        environment = {"PATH": self.path, "HOME": str(folder), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
        for one in container["env"]:
            source = one["valueFrom"]["secretKeyRef"]
            environment[one["name"]] = base64.b64decode(self.secrets[source["name"]][source["key"]]).decode()
        command = [*container["command"], *container["args"]]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        self.logs[name] = done.stdout + done.stderr
        self.statuses[name] = done.returncode

    def answer(self, verb: str, kind: str, name: str | None, body: dict) -> dict:
        """Return the API's answer to a request."""
        if (verb, kind) == ("POST", "secrets"):
            self.secrets[body["metadata"]["name"]] = body["data"]
        if (verb, kind) == ("POST", "jobs"):
            self.jobs[body["metadata"]["name"]] = body
            if self.is_full:
                self.statuses[body["metadata"]["name"]] = 1
            else:
                self._pods.submit(self._run, body["metadata"]["name"], body["spec"]["template"]["spec"])
        if (verb, kind) == ("GET", "jobs"):
            status = self.statuses.get(name)
            counts = {} if status is None else {"succeeded" if status == 0 else "failed": 1}
            return {"kind": "Job", "metadata": {"name": name}, "status": counts}
        if (verb, kind) == ("GET", "pods"):
            return {"kind": "PodList", "items": []}
        return body

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                found = re.match(NAMES, self.path)
                size = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(size) or b"{}")
                content = json.dumps(cluster.answer(self.command, found["kind"], found["name"], body)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = _answer

            def log_message(self, *_: object) -> None:
                """Keep the test's output quiet."""

        return Handler


def path_with(folder: Path, programs: Path) -> str:
    """Return a PATH whose first folder holds a pip that installs nothing, but notes what it is asked for."""
    folder.mkdir()
    (folder / "pip").write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n')
    (folder / "pip").chmod(0o755)
    return os.pathsep.join([str(folder), str(programs), os.environ["PATH"]])
