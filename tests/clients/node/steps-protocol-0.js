// The steps with a client from before connection IDs and pings: node steps-protocol-0.js URL CLUSTER
'use strict'

process.env.STAN_CLIENT = 'node-nats-streaming-protocol-0'
require('./steps')
