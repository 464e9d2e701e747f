// Publishes, up to WINDOW messages without their acks: node publisher.js URL CLUSTER CHANNEL COUNT WINDOW
//
// Prints `acked N` for every hundredth ack. COUNT 0: until told to `stop`. The last line is a JSON object that says
// how many were acked, what the callbacks were told, and what happened to the connection.
'use strict'

const { connect, close, done, run, troubles, told } = require('./lib')

const [, , , , channel, count, window] = process.argv

run(async () => {
  const client = await connect('publisher')
  const lost = troubles(client)
  let acked = 0
  const errors = []
  let published = 0
  let goal = Number(count) || Infinity
  told.on('told', (line) => { if (line === 'stop') goal = Math.min(goal, published) })
  await new Promise((resolve) => {
    const next = () => {
      const number = ++published
      client.publish(channel, `message ${number}`, (error) => {
        if (error) errors.push(String(error))
        else acked++
        const answered = acked + errors.length
        if (answered % 100 === 0) done(`acked ${acked}`)
        if (published < goal) next()
        else if (answered === published) resolve()
      })
    }
    for (let waiting = 0; waiting < Number(window); waiting++) next()
  })
  const before = [...lost]
  await close(client)
  done(JSON.stringify({ published, acked, errors, lost: before }))
})
