"""A full life cycle of a framework with pymesos; argument: the master's host:port. Prints `done` at the end."""

import json
import sys
import threading
import time
import urllib.request

from pymesos import MesosSchedulerDriver, Scheduler

SECONDS = 120
MASTER = sys.argv[1]
SERVE = "exec /usr/bin/python3 -m http.server --bind 0.0.0.0 $PORT"


def get(path, body=None):
    request = urllib.request.Request("http://%s%s" % (MASTER, path), data=body and json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read() or b"null")


def until(what, look):
    """Waits until `look` gives something, with a deadline."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise SystemExit("never: " + what)


class Site(Scheduler):
    """Runs so many servers behind one VIP."""

    def __init__(self, wanted):
        self.lock = threading.Lock()
        self.wanted = wanted
        self.launched = 0
        self.states = {}
        self.reasons = {}
        self.came = []
        self.errors = []

    def registered(self, driver, framework_id, master_info):
        self.came.append(framework_id["value"])

    def reregistered(self, driver, master_info):
        self.came.append("again")

    def error(self, driver, message):
        self.errors.append(message)

    def resourceOffers(self, driver, offers):
        for offer in offers:
            with self.lock:
                room = self.launched < self.wanted
                self.launched += room
            if room:
                driver.launchTasks(offer["id"], [self.task(offer)], filters={"refuse_seconds": 1})
            else:
                driver.declineOffer(offer["id"], filters={"refuse_seconds": 600})

    def task(self, offer):
        ports = [one for one in offer["resources"] if one["name"] == "ports"]
        port = ports[0]["ranges"]["range"][0]["begin"]
        vip = [{"key": "VIP_0", "value": "/site:80"}]
        return {
            # The same ids come from every framework in the world.
            "task_id": {"value": "%d" % self.launched},
            "agent_id": offer["agent_id"],
            "name": "site",
            "command": {
                "value": SERVE,
                "environment": {"variables": [{"name": "PORT", "value": str(port)}]},
            },
            "resources": [
                {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                {"name": "mem", "type": "SCALAR", "scalar": {"value": 64}},
                {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": port, "end": port}]}},
            ],
            "discovery": {
                "visibility": "CLUSTER",
                "name": "site",
                "ports": {"ports": [{"number": port, "protocol": "tcp", "labels": {"labels": vip}}]},
            },
        }

    def statusUpdate(self, driver, status):
        task = status["task_id"]["value"]
        self.states[task] = status["state"]
        self.reasons[task] = status.get("reason")


def driver_for(site, info):
    driver = MesosSchedulerDriver(site, info, MASTER)
    driver.start()
    until("registered", lambda: site.came)
    return driver


def running(site):
    return [task for task, state in site.states.items() if state == "TASK_RUNNING"]


def served(backends):
    """The VIP has so many servers, and each request is answered."""

    def look():
        vips = [vip for vip in get("/revere/v1/vips")["vips"] if vip["name"].startswith("site.pymesos.")]
        if len(vips) != 1 or len([one for one in vips[0]["backends"] if one["weight"]]) != backends:
            return None
        return vips[0]

    vip = until("the VIP has %d servers" % backends, look)
    return "http://%s:%s/" % (vip["address"], vip["port"])


def main():
    info = {"user": "root", "name": "pymesos", "failover_timeout": 600, "checkpoint": True}
    info["capabilities"] = [{"type": "PARTITION_AWARE"}]
    site = Site(2)
    driver = driver_for(site, info)
    framework = site.came[0]
    until("two tasks run", lambda: len(running(site)) == 2)
    url = served(2)
    answered = lambda: urllib.request.urlopen(url, timeout=10).status == 200
    until("the VIP answers", lambda: try_or_none(answered))

    shown = {one["framework_info"]["id"]["value"]: one for one in get("/api/v1", {"type": "GET_FRAMEWORKS"})["get_frameworks"]["frameworks"]}
    assert shown[framework]["connected"], shown
    tasks = get("/api/v1", {"type": "GET_TASKS"})["get_tasks"]["tasks"]
    mine = [task for task in tasks if task["framework_id"]["value"] == framework]
    assert sorted(task["task_id"]["value"] for task in mine) == ["1", "2"], mine

    driver.killTask({"value": "1"})
    until("a task is killed", lambda: site.states["1"] == "TASK_KILLED")
    served(1)
    driver.reconcileTasks([{"task_id": {"value": "nobody"}}])
    until("an unknown task is told", lambda: site.states.get("nobody") == "TASK_UNKNOWN")

    # Its scheduler goes away and comes back: the task runs on.
    driver.stop(failover=True)
    driver.join()
    again = Site(0)
    driver = driver_for(again, dict(info, id={"value": framework}))
    driver.reconcileTasks([])
    until("the task is told", lambda: again.states.get("2") == "TASK_RUNNING")
    assert again.reasons["2"] == "REASON_RECONCILIATION", again.reasons
    served(1)

    driver.stop()
    driver.join()
    gone = lambda: all(one["framework_info"]["id"]["value"] != framework for one in get("/api/v1", {"type": "GET_FRAMEWORKS"})["get_frameworks"]["frameworks"])
    until("the framework is gone", gone)
    vips = [vip["name"] for vip in get("/revere/v1/vips")["vips"]]
    assert not [name for name in vips if name.startswith("site.pymesos.")], vips
    assert not site.errors and not again.errors, (site.errors, again.errors)
    print("done")


def try_or_none(look):
    try:
        return look()
    except OSError:
        return None


main()
