/**
 * CancelRequest to the upstream, over the same kind of connection as the session's own
 * (https://www.postgresql.org/docs/18/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS).
 */
import type net from 'node:net'
import { Interrupt } from '../core/core.ts'
import { encodeCancelRequest, written } from '../wire/wire.ts'
import { openStream, type TlsAttempt } from './tls.ts'
import type { UpstreamTarget } from './target.ts'

const cancelMsMax = 10_000

/**
 * Asks the server to cancel what the connection with this key is doing. Resolves when the server has
 * closed the cancel connection: from then on no further statement can be hit by it. Never throws for
 * a cancel that came too late; throws ProxyError where the server could not be reached.
 */
export async function sendCancel(
  target: UpstreamTarget,
  processId: number,
  secret: Buffer,
): Promise<void> {
  const interrupt = new Interrupt()
  const timer = interrupt.raiseAfter(cancelMsMax)
  try {
    const { socket } = await openStream(target, tlsOf(target), interrupt)
    interrupt.on(() => void socket.destroy())
    try {
      await exchange(socket, processId, secret)
    } finally {
      socket.destroy()
    }
  } finally {
    clearTimeout(timer)
  }
}

function exchange(socket: net.Socket, processId: number, secret: Buffer): Promise<void> {
  return new Promise((resolve) => {
    // One that is closed already has nothing more to say.
    if (socket.destroyed) resolve()
    socket.once('close', () => resolve())
    socket.once('end', () => resolve())
    socket.once('error', () => resolve())
    socket.resume()
    socket.write(written((writer) => encodeCancelRequest(writer, processId, secret)))
  })
}

function tlsOf(target: UpstreamTarget): TlsAttempt {
  const { mode } = target.tls
  if (mode === 'disable' || mode === 'allow') return 'never'
  return mode === 'prefer' ? 'if_offered' : 'always'
}
