// Receives on a durable subscription until told: node durable.js URL CLUSTER CHANNEL
//
// Prints `subscribed`; told `last SEQUENCE`, goes on until it has every message up to there, and prints a JSON object
// with what it received for the first time, how often it received something again, and what happened to the connection.
'use strict'

const { connect, close, done, run, subscribe, troubles, told, within } = require('./lib')

const [, , , , channel] = process.argv

run(async () => {
  const client = await connect('durable')
  const lost = troubles(client)
  const options = client.subscriptionOptions().setDeliverAllAvailable().setDurableName('ledger')
  const received = new Map()
  const order = []
  let again = 0
  const subscription = await subscribe(client, channel, {
    options,
    use: (message) => {
      const sequence = message.getSequence()
      if (received.has(sequence)) again++
      else order.push(sequence)
      received.set(sequence, message.getData())
    }
  })
  done('subscribed')

  const last = await new Promise((resolve) => told.on('told', (line) => {
    const [, sequence] = line.match(/^last (\d+)$/) || []
    if (sequence) resolve(Number(sequence))
  }))
  await within(`everything up to ${last}`, (resolve) => {
    const look = () => { if (received.size >= last) resolve() }
    subscription.on('more', look)
    look()
  })
  const before = [...lost]
  await close(client)
  done(JSON.stringify({ messages: order.map((sequence) => [sequence, received.get(sequence)]), again, lost: before }))
})
