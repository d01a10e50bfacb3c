/** Connections of node-postgres that come from another address of this machine (127.0.0.0/8). */
import net from 'node:net'

/** For `stream` of a pg.Client's configuration. */
export function streamFrom(localAddress: string): () => net.Socket {
  return () => {
    const socket = new net.Socket()
    const connect = socket.connect.bind(socket)
    Object.assign(socket, {
      connect: (port: number, host: string) => connect({ port, host, localAddress }),
    })
    return socket
  }
}
