// One connection to two groups of servers: node partition.js URL CLUSTER CHANNEL CHANNEL
//
// Publishes to both channels before and after the active of one group is killed, reads both, lets pings go by, and
// prints a line for each step.
'use strict'

const { ask, close, connect, data, done, publish, run, subscribe, troubles, until, within } = require('./lib')

const [, , , , ...channels] = process.argv

run(async () => {
  const client = await connect('shop', { stanPingInterval: 1000, stanMaxPingOut: 60 })
  const lost = troubles(client)
  const options = client.subscriptionOptions().setDeliverAllAvailable().setDurableName('books')
  const subscriptions = []
  for (const channel of channels) subscriptions.push(await subscribe(client, channel, { options }))
  done('subscribed to both')
  const both = async (text) => {
    await Promise.all(channels.map((channel) => publish(client, channel, `${text} to ${channel}`)))
  }
  await both('before')
  await ask('kill', 'killed')
  await both('after')
  for (const [index, channel] of channels.entries()) {
    const expected = [`before to ${channel}`, `after to ${channel}`]
    await until(subscriptions[index], `all of ${channel}`, (received) => {
      return expected.every((text) => data(received).includes(text))
    })
  }
  done('received everything')
  // Both groups answer each of two pings; one that did not know this connection would end it.
  await within('four answers to pings', (resolve, reject) => {
    let answers = 0
    client.nc.subscribe(client.pingInbox, (answer) => {
      if (answer.length !== 0) reject(answer)
      if (++answers === 4) resolve()
    })
  })
  done('both groups answered pings')
  const before = [...lost]
  await close(client)
  done(JSON.stringify({ lost: before }))
})
