"""A tour with redis-py, in both protocols. Usage: clients.py PORT"""

import sys
import threading
import time

import redis

port = int(sys.argv[1])


def tour(protocol):
    r = redis.Redis(port=port, protocol=protocol, decode_responses=True)
    r.flushall()
    assert r.ping()
    assert r.set("k", "v", ex=100, nx=True) is True
    assert r.set("k", "w", nx=True) is None
    assert r.get("k") == "v" and 0 < r.ttl("k") <= 100
    assert r.getex("k", persist=True) == "v" and r.ttl("k") == -1
    assert r.append("k", "123") == 4 and r.getrange("k", 1, 2) == "12"
    assert r.setbit("b", 7, 1) == 0 and r.bitcount("b") == 1 and r.bitpos("b", 1) == 7
    assert r.bitfield("f").set("u8", 0, 200).incrby("u8", 0, 100, overflow="SAT").execute() == [0, 255]
    assert r.incrbyfloat("fl", 0.5) == 0.5
    assert r.mset({"x": 1, "y": 2}) and r.mget("x", "y", "z") == ["1", "2", None]
    assert r.lcs("x", "y") == ""
    assert sorted(r.scan_iter(count=3)) == sorted(["k", "b", "f", "fl", "x", "y"])
    with r.pipeline() as p:
        p.watch("x")
        p.multi()
        p.incr("x")
        r.incr("x")
        try:
            p.execute()
            raise AssertionError("a watched key changed")
        except redis.WatchError:
            pass
    assert r.config_set("timeout", 0) and r.config_get("time*") == {"timeout": "0"}
    assert r.client_setname("tour") and r.client_getname() == "tour"
    assert any(c["name"] == "tour" for c in r.client_list())
    assert r.object("encoding", "x") == "int"
    assert r.info("server")["server_name"] == "tercel"
    assert r.command_count() > 80
    assert r.memory_usage("k") > 0
    assert r.dbsize() == 6
    pubsub = r.pubsub()
    pubsub.subscribe("c")
    assert pubsub.get_message(timeout=5)["type"] == "subscribe"
    assert r.publish("c", "m") == 1
    assert pubsub.get_message(timeout=5)["data"] == "m"
    pubsub.close()
    r.config_set("notify-keyspace-events", "Ex")
    events = r.pubsub()
    events.psubscribe("__keyevent@0__:expired")
    assert events.get_message(timeout=5)["type"] == "psubscribe"
    begin = time.monotonic()
    r.set("gone", "v", px=50)
    assert events.get_message(timeout=5)["data"] == "gone"
    assert time.monotonic() - begin < 5
    events.close()
    r.config_set("notify-keyspace-events", "")
    value = b"x" * (20 << 20)
    binary = redis.Redis(port=port, protocol=protocol)
    assert binary.set("big", value) and binary.get("big") == value
    binary.delete("big")


def hammer(number):
    r = redis.Redis(port=port)
    for at in range(500):
        key = f"h:{number}:{at}"
        r.set(key, at)
        assert int(r.get(key)) == at


for protocol in (2, 3):
    tour(protocol)
threads = [threading.Thread(target=hammer, args=(n,)) for n in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert redis.Redis(port=port).dbsize() == 6 + 8 * 500
print("ok")
