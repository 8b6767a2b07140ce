#!/usr/bin/env python3
"""A worker that pulls jobs from Onetake over HTTP, with Python's standard library alone. Run it as often as you like.

    ONETAKE_URL=http://localhost:7700 ONETAKE_API_KEY=otk_... ./worker.py QUEUE

Each job is held for LEASE seconds (30) and longer while this process lives. If it dies, another worker gets the job.
"""
import json, os, socket, sys, threading, time, traceback, uuid
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

CLAIMS = f"{os.environ.get('ONETAKE_URL', 'http://localhost:7700')}/v1/queues/{sys.argv[1]}/claims"
LEASE = int(os.environ.get("LEASE", "30"))
NAME = f"{socket.gethostname()}-{os.getpid()}"
HEADERS = {"content-type": "application/json"}
if "ONETAKE_API_KEY" in os.environ:
    HEADERS["authorization"] = f"Bearer {os.environ['ONETAKE_API_KEY']}"


class Cancelled(Exception):
    """Nobody wants the job done any more; told by the answer to a heartbeat."""


def work(job, report):
    """Yours. What it returns is the job's result, what it raises fails the attempt."""
    data = job["data"]
    for step in range(data.get("steps", 1)):
        time.sleep(data.get("pause", 0))
        report(100 * (step + 1) // data.get("steps", 1))
    if "error" in data:
        raise ValueError(data["error"])
    return {"by": NAME, "language": "python", "data": data}


def call(path, body, key=None):
    """POSTs until the server has an answer. Repeating is safe: a claim has a key, and the rest is refused the second time."""
    headers = HEADERS if key is None else {**HEADERS, "idempotency-key": key}
    while True:
        try:
            with urlopen(Request(CLAIMS + path, json.dumps(body).encode(), headers), timeout=90) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            if error.code < 500:
                return error.code, json.load(error)
        except OSError:
            pass
        time.sleep(1)


def run(token, job):
    held, done = {"token": token, "lease": f"{LEASE}s"}, threading.Event()
    beat = lambda **more: call(f"/{quote(job['id'], safe='')}/heartbeat", {**held, **more})

    def keep():
        while not done.wait(LEASE / 3) and beat()[0] == 200:
            pass

    def report(percent):
        _, answer = beat(progress=percent, logs=[f"{percent} %"])
        if answer.get("cancelled"):
            raise Cancelled(answer["cancelled"])

    threading.Thread(target=keep, daemon=True).start()
    print("took", job["id"], flush=True)
    try:
        verb, body = "complete", {"result": work(job, report)}
    except Exception as error:
        retry = not isinstance(error, Cancelled)
        verb, body = "fail", {"reason": str(error), "stack": traceback.format_exc(), "retry": retry}
    done.set()
    status, answer = call(f"/{quote(job['id'], safe='')}/{verb}", {"token": token, **body})
    print(answer["state"] if status == 200 else answer["code"], job["id"], flush=True)  # lease_lost: it is another's


while True:
    status, claim = call("", {"worker": NAME, "lease": f"{LEASE}s", "wait": "20s"}, key=str(uuid.uuid4()))
    if status != 200:
        sys.exit(f"{claim['code']}: {claim['detail']}")
    for job in claim["items"]:
        run(claim["token"], job)
