/**
 * COPY FROM STDIN, while the server takes its data: rows pass as they come, Flush and Sync are dropped, for
 * the server ignores them (CopyGetData in copyfromparse.c). Any other message would end the connection there
 * before it is read, so it does here, before it is judged.
 */
import { ProxyError } from '../core/core.ts'
import { encodeFlush, frontendTypes, written, type FrameView } from '../wire/wire.ts'
import type { Expected } from './expected.ts'
import type { State } from './state.ts'

const flushFrame = written((to) => encodeFlush(to))

/** Until the server has answered a COPY FROM STDIN, what a Sync would mean is not known. */
export function expectCopy(state: State, entry: Expected, count: number): void {
  if (state.segmentOpen) state.toUpstream.add(flushFrame)
  state.expectCopy(entry, count)
}

/** A message of a client whose data the server takes. */
export function takeCopyData(state: State, type: number, view: FrameView): void {
  switch (type) {
    case frontendTypes.Flush:
      return
    case frontendTypes.CopyDone:
    case frontendTypes.CopyFail:
      state.copyEnds()
      break
    case frontendTypes.CopyData:
      break
    default: {
      const shown = type.toString(16).toUpperCase().padStart(2, '0')
      throw new ProxyError(
        'protocol_violation',
        `unexpected message type 0x${shown} during COPY from stdin`,
      )
    }
  }
  state.toUpstream.pass(view.buffer, view.start, view.end)
}
