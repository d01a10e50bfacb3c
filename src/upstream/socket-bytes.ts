/**
 * Pull reading of a socket while a connection is set up, before the pump takes it over: nothing is
 * read that nobody asked for, so a peer that floods meets its own TCP window.
 *
 * Invariants: one reader at a time; `release` leaves the socket paused, with what it had buffered
 * still inside, and with a listener for `error` so that a late reset never ends the process.
 */
import type { Socket } from 'node:net'
import { assert } from '../core/core.ts'

/** Reads chunks of one socket on demand. */
export class SocketBytes {
  readonly socket: Socket
  #error: Error | null = null
  #ended = false
  #wake: (() => void) | null = null
  readonly #onReadable = (): void => this.#wake?.()
  readonly #onEnd = (): void => {
    this.#ended = true
    this.#wake?.()
  }
  readonly #onError = (error: Error): void => {
    this.#error ??= error
    this.#wake?.()
  }

  constructor(socket: Socket) {
    this.socket = socket
    ignoreErrors(socket)
    socket.on('readable', this.#onReadable)
    socket.on('end', this.#onEnd)
    socket.on('close', this.#onEnd)
    socket.on('error', this.#onError)
  }

  /** The next bytes, or null when the peer has closed. Throws what the socket failed with. */
  read(): Promise<Buffer | null> {
    assert(this.#wake === null, 'two reads of one socket at once')
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const chunk = this.socket.read() as Buffer | null
        if (chunk !== null) resolve(chunk)
        else if (this.#error !== null) reject(this.#error)
        else if (this.#ended || this.socket.destroyed || this.socket.readableEnded) resolve(null)
        else {
          this.#wake = look
          return
        }
        this.#wake = null
      }
      look()
    })
  }

  /** Bytes that have arrived and were not read. */
  get bufferedBytes(): number {
    return this.socket.readableLength
  }

  /** Gives the socket back. */
  release(): void {
    this.socket.off('readable', this.#onReadable)
    this.socket.off('end', this.#onEnd)
    this.socket.off('close', this.#onEnd)
    this.socket.off('error', this.#onError)
    this.socket.pause()
  }
}

/** A socket without a listener for `error` ends the process when its peer resets it. */
export function ignoreErrors(socket: Socket): void {
  if (!socket.listeners('error').includes(nothing)) socket.on('error', nothing)
}

function nothing(): void {
  // What failed is told by `close`, or by whoever reads.
}
