// The floor for any proxy on Node: bytes from one socket to the other, nothing else.
//   node bench/load/relay.mjs <upstream port>       prints the port it listens on
import { connect, createServer } from 'node:net'

const upstreamPort = Number(process.argv[2])
const server = createServer({ noDelay: true }, (client) => {
  const upstream = connect({ port: upstreamPort, host: '127.0.0.1', noDelay: true })
  const join = (from, to) => {
    from.on('data', (chunk) => {
      if (!to.write(chunk)) from.pause()
    })
    to.on('drain', () => from.resume())
    from.on('error', () => to.destroy())
    from.on('close', () => to.end())
  }
  join(client, upstream)
  join(upstream, client)
})
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
