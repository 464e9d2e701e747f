"""What an application does with the client, step by step: python steps.py URL CLUSTER

Prints a line for each step that went as documented. `?` lines ask the test to do something to the servers.
"""

import asyncio
import time

from lib import SENDS_PINGS, Application, ask, done, refusal, within

EVERYTHING = {"deliver_all_available": True}


async def main():
    app = await Application().connect("steps", ping_interval=1, ping_max_out=3)
    done("connected")

    reason = await refusal(Application().connect("steps"))
    done(f"a second client with the same ID is refused: {reason}")

    await app.publish("orders", "orders 1")
    done("published one message and got its ack")

    await publish_without_waiting(app, "orders", range(2, 21))
    done("published 19 messages without waiting and got their acks")

    await start_positions(app)
    await acks(app)
    await durables(app)
    await queues(app)
    if SENDS_PINGS:
        await pings(app)
    await through_the_death_of_the_active(app)

    assert app.troubles == [], app.troubles
    await app.close()
    done("closed")


async def publish_without_waiting(app, channel, numbers):
    waiting = asyncio.Semaphore(0)
    errors = []

    async def acked(ack):
        if ack.error:
            errors.append(ack.error)
        waiting.release()

    for number in numbers:
        await app.stan.publish(channel, f"{channel} {number}".encode(), ack_handler=acked)
    for _ in numbers:
        await within("acks", waiting.acquire())
    assert errors == [], errors


async def start_positions(app):
    all_of_them = list(range(1, 22))
    positions = {
        "with new messages": ({}, [21]),
        "with the last message": ({"start_at": "last_received"}, [20, 21]),
        "at the first message": (EVERYTHING, all_of_them),
        "at a sequence": ({"start_at": "sequence", "sequence": 18}, [18, 19, 20, 21]),
        "an hour ago": ({"start_at": "time", "time": time.time() - 3600}, all_of_them),
        "at a time to come": ({"start_at": "time", "time": time.time() + 3600}, [21]),
    }
    started = {}
    for name, (start, _) in positions.items():
        started[name] = await app.subscribe("orders", **start)
    await app.publish("orders", "orders 21")
    for name, (_, expected) in positions.items():
        received = started[name]
        await received.at_least(len(expected))
        assert received.sequences() == expected, (name, received.sequences())
        assert received.texts() == [f"orders {sequence}" for sequence in expected]
        await received.unsubscribe()
        done(f"started {name}")


fences = 0


async def fence(app):
    """Returns when everything that the servers had sent before has arrived: one connection keeps the order."""
    global fences
    fences += 1
    received = await app.subscribe(f"fence.{fences}")
    await app.publish(f"fence.{fences}", "fence")
    await received.at_least(1)
    await received.unsubscribe()


async def acks(app):
    async def ack_all_but_the_second(message):
        if message.sequence != 2 or message.proto.redelivered:
            await app.stan.ack(message)

    await app.publish_all("tasks", 3)
    tasks = await app.subscribe("tasks", ack_all_but_the_second, manual_acks=True, ack_wait=1, **EVERYTHING)
    await tasks.at_least(4)
    await fence(app)
    assert tasks.sequences() == [1, 2, 3, 2], tasks.sequences()
    assert [message.proto.redelivered for message in tasks.messages] == [False, False, False, True]
    await tasks.unsubscribe()
    done("a message that was not acked came again, marked as redelivered; the others did not")

    await app.publish_all("slowly", 6)
    slowly = await app.subscribe("slowly", manual_acks=True, max_inflight=2, **EVERYTHING)
    await slowly.at_least(2)
    await fence(app)
    assert slowly.sequences() == [1, 2], slowly.sequences()
    await app.stan.ack(slowly.messages[0])
    await slowly.at_least(3)
    await fence(app)
    assert slowly.sequences() == [1, 2, 3], slowly.sequences()
    for done_with in range(1, 6):
        await slowly.at_least(done_with + 1)
        await app.stan.ack(slowly.messages[done_with])
    assert slowly.sequences() == [1, 2, 3, 4, 5, 6], slowly.sequences()
    await slowly.close()
    done("no more messages were in flight than allowed")


async def durables(app):
    durable = {"durable_name": "books", **EVERYTHING}
    await app.publish_all("bills", 3)
    bills = await app.subscribe("bills", **durable)
    await bills.at_least(3)
    reason = await refusal(app.subscribe("bills", **durable))
    done(f"a second subscription to the durable is refused: {reason}")
    # The acks were sent on the connection that the fence's request follows.
    await fence(app)
    await bills.close()
    await app.publish("bills", "bills 4")
    bills = await app.subscribe("bills", **durable)
    await bills.at_least(1)
    await fence(app)
    assert bills.sequences() == [4], bills.sequences()
    done("a durable that was closed went on after its last message")
    await bills.unsubscribe()
    bills = await app.subscribe("bills", **durable)
    await bills.at_least(4)
    assert bills.sequences() == [1, 2, 3, 4], bills.sequences()
    await bills.unsubscribe()
    done("a durable that was unsubscribed began anew")


async def queues(app):
    first = await app.subscribe("jobs", queue="workers")
    second = await app.subscribe("jobs", queue="workers")
    await app.publish_all("jobs", 20)
    await fence(app)
    shared = sorted(first.sequences() + second.sequences())
    assert shared == list(range(1, 21)), shared
    assert first.messages and second.messages
    await first.unsubscribe()
    await second.unsubscribe()
    done("two members of a queue group shared its messages")

    member = {"queue": "shippers", "durable_name": "books", **EVERYTHING}
    await app.publish_all("parcels", 2)
    parcels = await app.subscribe("parcels", **member)
    await parcels.at_least(2)
    await fence(app)
    await parcels.close()
    await app.publish("parcels", "parcels 3")
    parcels = await app.subscribe("parcels", **member)
    await parcels.at_least(1)
    await fence(app)
    assert parcels.sequences() == [3], parcels.sequences()
    await parcels.unsubscribe()
    done("a durable queue group without members kept its place")


async def pings(app):
    answers = asyncio.Queue()

    async def note(answer):
        await answers.put(answer.data)

    await app.nats.subscribe(app.stan._ping_inbox, cb=note)
    for _ in range(2):
        assert await within("an answer to a ping", answers.get()) == b""
    done("pings were answered")

    replaced = await Application().connect("replaced", ping_interval=1)
    await replaced.nats.unsubscribe(replaced.stan._hb_inbox_sid)
    await replaced.nats.flush()
    successor = await Application().connect("replaced")
    reason = await within("the news that it was replaced", replaced.lost)
    done(f"a client that answered no heartbeat was replaced, and is told: {reason}")
    await successor.close()
    await replaced.nats.close()


async def through_the_death_of_the_active(app):
    async def ack_the_second_time(message):
        if message.proto.redelivered:
            await app.stan.ack(message)

    await app.publish_all("held", 3)
    held = await app.subscribe("held", ack_the_second_time, manual_acks=True, ack_wait=2, **EVERYTHING)
    await held.at_least(3)
    through = await app.subscribe("through", **EVERYTHING)

    acked = set()
    published = 0
    goal = None

    async def publish():
        nonlocal published
        while goal is None or published < goal:
            published += 1
            text = f"through {published}"
            await app.publish("through", text)
            acked.add(text)

    publishing = asyncio.gather(*(publish() for _ in range(20)))
    await through.at_least(200)
    await ask("kill the active", "killed")
    goal = published + 300
    await within("acks", publishing)
    assert len(acked) == published
    done("every publish around the death of the active was acked")

    await through.until("all that was acked", lambda _: acked <= set(through.texts()))
    # What was sent and not noted before the end comes as if for the first time.
    ahead = list(dict.fromkeys(
        message.sequence for message in through.messages if not message.proto.redelivered))
    assert ahead == sorted(ahead)
    done("a subscription went on through it")

    await held.until("the unacked messages again", lambda messages: {1, 2, 3} <= {
        message.sequence for message in messages if message.proto.redelivered})
    done("what was unacked came again, marked as redelivered")
    await held.unsubscribe()
    await through.unsubscribe()


asyncio.run(main())
