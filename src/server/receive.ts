/**
 * Receiving without Node's streams. A stream allocates 64 KiB for every read, shrinks it to what
 * came, and takes it through two queues; for messages of a hundred bytes that is a quarter of what a
 * proxy costs (docs/decisions/performance.md). Node can read into a buffer of ours instead: it
 * documents that as `onread`, for sockets that the process itself connects. It is the same for those
 * that it accepts, and it can be switched on later, when the handshake is over.
 *
 * Invariant: a chunk that was given out is never written to again. Small ones are copies out of the
 * buffer that all sockets share; a socket that brings much reads into buffers of its own, which are
 * given away whole.
 *
 * Where this Node has other internals than the ones looked for, and with TLS, chunks come by `data`.
 */
import { Socket } from 'node:net'

const sharedBytes = 64 * 1024
/** What a read must have brought for the next one to have a buffer of its own. */
const muchBytes = 16 * 1024
const ownBytes = 64 * 1024

type OnBytes = (chunk: Buffer) => void

/** What `onread` sets on a socket; named by the description of its symbol. */
interface Symbols {
  readonly buffer: symbol
  readonly callback: symbol
  readonly next: symbol
}

interface Internals extends Symbols {
  readonly handle: { useUserBuffer(buffer: Buffer): void }
}

/** The receiving side of a process's plain sockets. */
export class Receiver {
  readonly #shared = Buffer.allocUnsafeSlow(sharedBytes)

  /**
   * Gives every chunk of the socket to `onBytes`, from what it has buffered on. The socket must be
   * paused; pause() and resume() mean what they always mean.
   */
  receive(socket: Socket, onBytes: OnBytes): void {
    const internals = internalsOf(socket)
    if (internals === null) {
      socket.on('data', onBytes)
      return
    }
    const shared = this.#shared
    let much = false
    const fields = socket as unknown as Record<symbol, unknown>
    const onRead = (count: number, buffer: Buffer): boolean => {
      much = count >= muchBytes
      const view = buffer.subarray(0, count)
      onBytes(buffer === shared ? Buffer.from(view) : view)
      return true
    }
    const nextBuffer = (): Buffer => (much ? Buffer.allocUnsafeSlow(ownBytes) : shared)
    fields[internals.callback] = onRead
    fields[internals.next] = nextBuffer
    fields[internals.buffer] = shared
    internals.handle.useUserBuffer(shared)
    for (;;) {
      const chunk = socket.read() as Buffer | null
      if (chunk === null) break
      onBytes(chunk)
    }
  }
}

/** Null where chunks can only be had from the stream. */
function internalsOf(socket: Socket): Internals | null {
  if ('encrypted' in socket || !(socket instanceof Socket)) return null
  const { _handle: handle } = socket as unknown as { readonly _handle?: Internals['handle'] | null }
  if (typeof handle?.useUserBuffer !== 'function') return null
  const found = known !== null && Object.hasOwn(socket, known.buffer) ? known : symbolsOf(socket)
  if (found === null) return null
  known = found
  const { buffer, callback, next } = found
  return { handle, buffer, callback, next }
}

/** They are Node's own, the same for all sockets. */
let known: Symbols | null = null

function symbolsOf(socket: Socket): Symbols | null {
  const symbols = new Map(
    Object.getOwnPropertySymbols(socket).map((symbol) => [symbol.description, symbol]),
  )
  const [buffer, callback, next] = ['kBuffer', 'kBufferCb', 'kBufferGen'].map((name) =>
    symbols.get(name),
  )
  if (buffer === undefined || callback === undefined || next === undefined) return null
  return { buffer, callback, next }
}
