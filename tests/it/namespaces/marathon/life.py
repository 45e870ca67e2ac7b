"""A full life cycle with Debian's python3-marathon; argument: the master's address. Prints `done` at the end."""

import sys
import threading
import time

from marathon import MarathonClient
from marathon.exceptions import MarathonHttpError
from marathon.models import MarathonApp, MarathonGroup
from marathon.models.constraint import MarathonConstraint

SECONDS = 120
client = MarathonClient([sys.argv[1]])


def until(what, look):
    """Waits until `look` gives something, with a deadline."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise SystemExit("never: " + what)


def settled():
    return not client.list_deployments()


def running(app, count):
    def look():
        tasks = [task for task in client.list_tasks(app) if task.state == "TASK_RUNNING"]
        return tasks if len(tasks) == count else None

    return until("%d tasks of %s run" % (count, app), look)


def refused(status, call):
    try:
        call()
    except MarathonHttpError as error:
        assert error.status_code == status, (error.status_code, status, error)
        return error
    raise SystemExit("was not refused with %d" % status)


def app(name, **more):
    return MarathonApp(id=name, cmd="exec sleep 1000", cpus=0.1, mem=16, instances=1, port_definitions=[], **more)


seen = []


def follow():
    for event in client.event_stream(event_types=["deployment_success", "status_update_event"]):
        seen.append(event)


threading.Thread(target=follow, daemon=True).start()

assert client.ping() == b"pong" or client.ping() == "pong", client.ping()
assert client.get_info().elected and client.get_leader()["leader"]

# An app from its birth over every kind of change.
made = client.create_app("/py/web", app("/py/web", labels={"tier": "front"}))
assert made.id == "/py/web" and made.deployments, made
until("the first deployment", settled)
running("/py/web", 1)
refused(409, lambda: client.create_app("/py/web", app("/py/web")))
error = refused(422, lambda: client.create_app("/py/bad", MarathonApp(id="/py/bad", cmd="x", cpus=-1)))
assert "not valid" in str(error), error
client.scale_app("/py/web", instances=3)
tasks = running("/py/web", 3)
until("the scaling", settled)
first = client.get_app("/py/web").version
client.update_app("/py/web", MarathonApp(env={"COLOUR": "green"}))
until("the update", settled)
assert client.get_app("/py/web").env == {"COLOUR": "green"}
assert not {task.id for task in tasks} & {task.id for task in running("/py/web", 3)}, "all were replaced"
assert first in client.list_versions("/py/web") or len(client.list_versions("/py/web")) >= 2
client.restart_app("/py/web")
until("the restart", settled)
client.rollback_app("/py/web", first)
until("the return", settled)
assert not client.get_app("/py/web").env

# Lists, with their filters and what is embedded.
assert [one.id for one in client.list_apps(label="tier==front", embed_tasks=True)] == ["/py/web"]
assert len(client.get_app("/py/web", embed_tasks=True).tasks) == 3
assert len([task for task in client.list_tasks() if task.app_id == "/py/web"]) == 3
client.list_endpoints()

# Ends of tasks.
victim = running("/py/web", 3)[0]
assert client.kill_task("/py/web", victim.id).id == victim.id
until("a new one", lambda: victim.id not in [task.id for task in running("/py/web", 3)])
assert client.kill_given_tasks([task.id for task in running("/py/web", 3)][:1], scale=True)
running("/py/web", 2)
until("the smaller number", settled)

# What waits says why, and a deployment that cannot end is taken back.
client.create_app("/py/big", MarathonApp(id="/py/big", cmd="x", cpus=1000, mem=16, port_definitions=[]))
item = until("it waits", lambda: [one for one in client.list_queue(embed_last_unused_offers=True) if one.app.id == "/py/big"])[0]
reasons = {one["reason"]: one["declined"] for one in item.processed_offers_summary["rejectSummaryLastOffers"]}
assert reasons["InsufficientCpus"] > 0, reasons
stuck = client.list_deployments()[0]
assert stuck.affected_apps == ["/py/big"] and stuck.current_actions, stuck
client.reset_delay("/py/big")
client.delete_deployment(stuck.id)
until("it is taken back", settled)
refused(404, lambda: client.get_app("/py/big"))

# Placement.
unique = app("/py/unique", constraints=[MarathonConstraint("hostname", "LIKE", ".+"), MarathonConstraint("hostname", "UNIQUE")])
client.create_app("/py/unique", unique)
until("it has a place", settled)
assert client.get_app("/py/unique").constraints[0].operator == "LIKE"

# Groups.
shop = MarathonGroup(id="/pyshop", apps=[app("db"), app("front", dependencies=["/pyshop/db"])])
client.create_group(shop)
until("the group", settled)
group = client.get_group("/pyshop")
assert sorted(one.id for one in group.apps) == ["/pyshop/db", "/pyshop/front"], group.apps
client.scale_group("/pyshop", 2)
until("the scaled group", settled)
running("/pyshop/db", 2)
assert client.list_groups()
client.delete_group("/pyshop")
until("the group is gone", settled)

client.delete_app("/py/web", force=True)
client.delete_app("/py/unique", force=True)
until("all is gone", lambda: settled() and not [one for one in client.list_apps() if one.id.startswith("/py/")])
kinds = {event.event_type for event in seen}
assert {"deployment_success", "status_update_event"} <= kinds, kinds
print("done")
