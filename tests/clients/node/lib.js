// What the scripts share: waiting with a limit, and one-line wrappers around the client's events.
'use strict'

const readline = require('readline')
const stan = require(process.env.STAN_CLIENT || 'node-nats-streaming')

const LIMIT_MS = 30 * 1000

const [, , url, clusterID] = process.argv

/** Rejects when `start(resolve, reject)` has done neither within the limit. */
function within (what, start) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`waited ${LIMIT_MS} ms in vain: ${what}`)), LIMIT_MS)
    const settle = (end) => (value) => {
      clearTimeout(timer)
      end(value)
    }
    start(settle(resolve), settle((reason) => reject(new Error(`${what}: ${reason}`))))
  })
}

function connect (clientID, options) {
  return within(`connecting as ${clientID}`, (resolve, reject) => {
    const client = stan.connect(clusterID, clientID, { url, ...options })
    client.once('error', reject)
    client.once('connect', () => {
      client.removeListener('error', reject)
      resolve(client)
    })
  })
}

/** Whatever would tell an application that it lost its connection. */
function troubles (client) {
  const seen = []
  for (const event of ['error', 'connection_lost', 'disconnect', 'reconnecting', 'close']) {
    client.on(event, (detail) => seen.push(`${event} ${detail || ''}`))
  }
  return seen
}

function publish (client, channel, data) {
  return within(`publishing ${data}`, (resolve, reject) => {
    client.publish(channel, data, (error, guid) => error ? reject(error) : resolve(guid))
  })
}

/** A subscription that keeps what it receives; `use` may act on each message. */
function subscribe (client, channel, { group, options, use }) {
  return within(`subscribing to ${channel}`, (resolve, reject) => {
    const subscription = client.subscribe(channel, group, options || client.subscriptionOptions())
    subscription.received = []
    subscription.on('message', (message) => {
      subscription.received.push(message)
      if (use) use(message, subscription)
      subscription.emit('more')
    })
    subscription.once('error', reject)
    subscription.once('timeout', reject)
    subscription.once('ready', () => {
      subscription.removeListener('error', reject)
      resolve(subscription)
    })
  })
}

/** Waits until `condition(received)` holds, looking at each message that arrives. */
function until (subscription, what, condition) {
  return within(what, (resolve, reject) => {
    const look = () => {
      let holds
      try {
        holds = condition(subscription.received)
      } catch (error) {
        return reject(error)
      }
      if (!holds) return
      subscription.removeListener('more', look)
      resolve()
    }
    subscription.on('more', look)
    look()
  })
}

function end (subscription, how) {
  return within(`${how} of a subscription`, (resolve, reject) => {
    subscription.once('error', reject)
    subscription.once('timeout', reject)
    subscription.once(how === 'close' ? 'closed' : 'unsubscribed', resolve)
    subscription[how]()
  })
}

function close (client) {
  return within('closing the connection', (resolve, reject) => {
    client.once('close', (error) => error ? reject(error) : resolve())
    client.close()
  })
}

const sequences = (messages) => messages.map((message) => message.getSequence())
const data = (messages) => messages.map((message) => message.getData())

function done (step) {
  process.stdout.write(`${step}\n`)
}

const told = readline.createInterface({ input: process.stdin })
const unread = []
told.on('line', (line) => {
  unread.push(line)
  told.emit('told', line)
})

/** Asks the test for something, and waits until it says that it is done. */
function ask (what, answer) {
  done(`? ${what}`)
  return within(what, (resolve) => {
    const look = () => {
      if (unread[0] !== answer) return
      unread.shift()
      told.removeListener('told', look)
      resolve()
    }
    told.on('told', look)
    look()
  })
}

/** Runs the script; it ends with 1 and the reason when anything was not as it should be. */
function run (script) {
  script().then(
    // Only once everything is written: a pipe takes it piece by piece.
    () => process.stdout.write('', () => process.exit(0)),
    (error) => {
      process.stderr.write(`${error.stack}\n`)
      process.exit(1)
    })
}

module.exports = {
  ask, close, connect, data, done, end, publish, run, sequences, stan, subscribe, told, troubles, until, within
}
