// Publishes without a pause and notes when each ack came: node publisher.js URL CLUSTER WINDOW
//
// Prints `publishing` after the first thousand; told `stop`, prints a JSON list of the times, in milliseconds
// since 1970.
'use strict'

const { connect, close, done, run, told } = require('../../tests/clients/node/lib')

const [, , , , window] = process.argv

run(async () => {
  const client = await connect(`publisher-${process.pid}`)
  const acks = []
  let stopped = false
  told.on('told', (line) => { stopped = stopped || line === 'stop' })
  await new Promise((resolve, reject) => {
    let waiting = Number(window)
    const next = () => client.publish('figures', '0123456789abcdef'.repeat(8), (error) => {
      if (error) return reject(error)
      acks.push(performance.timeOrigin + performance.now())
      if (acks.length === 1000) done('publishing')
      if (!stopped) next()
      else if (--waiting === 0) resolve()
    })
    for (let number = 0; number < Number(window); number++) next()
  })
  await close(client)
  done(JSON.stringify(acks))
})
