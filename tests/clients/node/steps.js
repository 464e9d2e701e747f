// What an application does with the client, step by step: node steps.js URL CLUSTER
//
// Prints a line for each step that went as documented. `?` lines ask the test to do something to the servers.
'use strict'

const assert = require('assert').strict
const {
  ask, close, connect, data, done, end, publish, run, sequences, subscribe, troubles, until, within
} = require('./lib')

async function publishAll (client, channel, count) {
  for (let number = 1; number <= count; number++) await publish(client, channel, `${channel} ${number}`)
}

// Returns when everything that the servers had sent this client before has arrived: one connection keeps the order.
let fences = 0
async function fence (client) {
  const channel = `fence.${++fences}`
  const subscription = await subscribe(client, channel, {})
  await publish(client, channel, 'fence')
  await until(subscription, 'the fence', (received) => received.length > 0)
  await end(subscription, 'unsubscribe')
}

async function refusal (what) {
  const error = await what.then(() => assert.fail('it is accepted'), (error) => error)
  return error.message.replace(/^[^:]*: (Error: )?/, '')
}

run(async () => {
  const client = await connect('steps', { stanPingInterval: 1000, stanMaxPingOut: 3 })
  const lost = troubles(client)
  done('connected')

  done(`a second client with the same ID is refused: ${await refusal(connect('steps'))}`)

  await publish(client, 'orders', 'orders 1')
  done('published one message and got its ack')

  const guids = []
  await within('19 acks', (resolve, reject) => {
    for (let number = 2; number <= 20; number++) {
      const guid = client.publish('orders', `orders ${number}`, (error, acked) => {
        if (error) return reject(error)
        assert.ok(guids.includes(acked))
        if (acked === guids[18]) resolve()
      })
      guids.push(guid)
    }
  })
  done('published 19 messages without waiting and got their acks')

  const options = () => client.subscriptionOptions()
  const positions = {
    'with new messages': [options(), [21]],
    'with the last message': [options().setStartWithLastReceived(), [20, 21]],
    'at the first message': [options().setDeliverAllAvailable(), [...Array(21).keys()].map((n) => n + 1)],
    'at a sequence': [options().setStartAtSequence(18), [18, 19, 20, 21]],
    'an hour ago': [options().setStartAtTimeDelta(3600 * 1000), [...Array(21).keys()].map((n) => n + 1)],
    'at a time to come': [options().setStartTime(new Date(Date.now() + 3600 * 1000)), [21]]
  }
  const started = {}
  for (const [name, [start]] of Object.entries(positions)) {
    started[name] = await subscribe(client, 'orders', { options: start })
  }
  await publish(client, 'orders', 'orders 21')
  for (const [name, [, expected]] of Object.entries(positions)) {
    const subscription = started[name]
    await until(subscription, `the messages ${name}`, (received) => received.length >= expected.length)
    assert.deepEqual(sequences(subscription.received), expected)
    assert.deepEqual(data(subscription.received), expected.map((sequence) => `orders ${sequence}`))
    await end(subscription, 'unsubscribe')
    done(`started ${name}`)
  }

  await publishAll(client, 'tasks', 3)
  const tasks = await subscribe(client, 'tasks', {
    options: options().setDeliverAllAvailable().setManualAckMode(true).setAckWait(1000),
    use: (message) => {
      if (message.getSequence() !== 2 || message.isRedelivered()) message.ack()
    }
  })
  await until(tasks, 'the unacked message again', (received) => received.length >= 4)
  await fence(client)
  assert.deepEqual(sequences(tasks.received), [1, 2, 3, 2])
  assert.deepEqual(tasks.received.map((message) => message.isRedelivered()), [false, false, false, true])
  // Clients of protocol 0 do not know the count.
  assert.equal(tasks.received[3].getRedeliveryCount?.() ?? 1, 1)
  await end(tasks, 'unsubscribe')
  done('a message that was not acked came again, marked as redelivered; the others did not')

  await publishAll(client, 'slowly', 6)
  const slowly = await subscribe(client, 'slowly', {
    options: options().setDeliverAllAvailable().setManualAckMode(true).setMaxInFlight(2)
  })
  await until(slowly, 'the first two', (received) => received.length >= 2)
  await fence(client)
  assert.deepEqual(sequences(slowly.received), [1, 2])
  slowly.received[0].ack()
  await until(slowly, 'the third', (received) => received.length >= 3)
  await fence(client)
  assert.deepEqual(sequences(slowly.received), [1, 2, 3])
  for (let next = 1; next < 6; next++) {
    await until(slowly, `number ${next + 1}`, (received) => received.length > next)
    slowly.received[next].ack()
  }
  assert.deepEqual(sequences(slowly.received), [1, 2, 3, 4, 5, 6])
  await end(slowly, 'close')
  done('no more messages were in flight than allowed')

  const durable = () => ({ options: options().setDeliverAllAvailable().setDurableName('books') })
  await publishAll(client, 'bills', 3)
  let bills = await subscribe(client, 'bills', durable())
  await until(bills, 'three bills', (received) => received.length >= 3)
  done(`a second subscription to the durable is refused: ${await refusal(subscribe(client, 'bills', durable()))}`)
  await end(bills, 'close')
  await publish(client, 'bills', 'bills 4')
  bills = await subscribe(client, 'bills', durable())
  await until(bills, 'the fourth bill', (received) => received.length >= 1)
  await fence(client)
  assert.deepEqual(sequences(bills.received), [4])
  done('a durable that was closed went on after its last message')
  await end(bills, 'unsubscribe')
  bills = await subscribe(client, 'bills', durable())
  await until(bills, 'four bills', (received) => received.length >= 4)
  assert.deepEqual(sequences(bills.received), [1, 2, 3, 4])
  await end(bills, 'unsubscribe')
  done('a durable that was unsubscribed began anew')

  const first = await subscribe(client, 'jobs', { group: 'workers' })
  const second = await subscribe(client, 'jobs', { group: 'workers' })
  await publishAll(client, 'jobs', 20)
  await fence(client)
  const shared = sequences([...first.received, ...second.received]).sort((a, b) => a - b)
  assert.deepEqual(shared, [...Array(20).keys()].map((n) => n + 1))
  assert.ok(first.received.length > 0 && second.received.length > 0)
  await end(first, 'unsubscribe')
  await end(second, 'unsubscribe')
  done('two members of a queue group shared its messages')

  const member = () => ({ group: 'shippers', ...durable() })
  await publishAll(client, 'parcels', 2)
  let parcels = await subscribe(client, 'parcels', member())
  await until(parcels, 'two parcels', (received) => received.length >= 2)
  await end(parcels, 'close')
  await publish(client, 'parcels', 'parcels 3')
  parcels = await subscribe(client, 'parcels', member())
  await until(parcels, 'the third parcel', (received) => received.length >= 1)
  await fence(client)
  assert.deepEqual(sequences(parcels.received), [3])
  await end(parcels, 'unsubscribe')
  done('a durable queue group without members kept its place')

  // Clients of protocol 0 send none.
  if (client.pingInbox) await pings(client)
  await throughTheDeathOfTheActive(client)

  assert.deepEqual(lost, [])
  await close(client)
  assert.deepEqual(lost, ['close '])
  done('closed')
})

async function pings (client) {
  await within('two answers to pings', (resolve, reject) => {
    let answers = 0
    client.nc.subscribe(client.pingInbox, (answer) => {
      if (answer.length !== 0) reject(answer)
      if (++answers === 2) resolve()
    })
  })
  done('pings were answered')

  const replaced = await connect('replaced', { stanPingInterval: 1000 })
  const reason = within('the news that it was replaced', (resolve) => replaced.once('connection_lost', resolve))
  replaced.nc.unsubscribe(replaced.hbSubscription)
  const successor = await connect('replaced')
  done(`a client that answered no heartbeat was replaced, and is told: ${await reason}`)
  await close(successor)
}

async function throughTheDeathOfTheActive (client) {
  const options = () => client.subscriptionOptions().setDeliverAllAvailable()
  await publishAll(client, 'held', 3)
  const held = await subscribe(client, 'held', {
    options: options().setManualAckMode(true).setAckWait(2000),
    use: (message) => { if (message.isRedelivered()) message.ack() }
  })
  await until(held, 'what will be held', (received) => received.length >= 3)
  const through = await subscribe(client, 'through', { options: options() })

  const acked = new Set()
  let published = 0
  let goal = Infinity
  const publishing = within('acks', (resolve, reject) => {
    const next = () => {
      const text = `through ${++published}`
      client.publish('through', text, (error) => {
        if (error) return reject(error)
        acked.add(text)
        if (published < goal) next()
        else if (acked.size === published) resolve()
      })
    }
    for (let window = 0; window < 50; window++) next()
  })
  await until(through, 'messages on their way', (received) => received.length > 200)
  await ask('kill the active', 'killed')
  goal = published + 500
  await publishing
  done('every publish around the death of the active was acked')

  await until(through, 'all that was acked', (received) => new Set(data(received)).size >= acked.size)
  const missing = [...acked].filter((text) => !data(through.received).includes(text))
  assert.deepEqual(missing, [])
  // What was sent and not noted before the end comes as if for the first time.
  const ahead = [...new Set(sequences(through.received.filter((message) => !message.isRedelivered())))]
  assert.deepEqual(ahead, [...ahead].sort((a, b) => a - b))
  done('a subscription went on through it')

  await until(held, 'the unacked messages again', (received) => {
    return new Set(sequences(received.filter((message) => message.isRedelivered()))).size >= 3
  })
  done('what was unacked came again, marked as redelivered')
  await end(held, 'unsubscribe')
  await end(through, 'unsubscribe')
}
