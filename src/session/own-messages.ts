/**
 * Messages of regate's own on the client's connection, under reserved names. The client sees nothing of
 * them: neither an answer, nor another state of the server than it would have without.
 */
import {
  encodeBind,
  encodeClose,
  encodeDescribe,
  encodeExecute,
  encodeFlush,
  encodeParse,
  encodeSync,
  written,
} from '../wire/wire.ts'
import { Expected, OwnRequest } from './expected.ts'
import { reservedPrefix } from './refusal.ts'
import { SlotChange, type Portal } from './registry.ts'
import type { State } from './state.ts'

const flushFrame = written((to) => encodeFlush(to))
const syncFrame = written((to) => encodeSync(to))

/** A Describe of our own before an Execute whose rows nobody asked about. */
export function describePortal(state: State, portal: Portal): void {
  const bytes = written((to) => encodeDescribe(to, 'portal', portal.name))
  push(state, 'describe', bytes, new OwnRequest()).portal = portal
}

/**
 * Runs statements of our own on this connection. Ended by Sync where that changes nothing, else by Flush,
 * inside the client's segment; never by Query, which would commit an implicit transaction that the client has open. What is
 * `recorded` goes with the turn's records, or fails.
 */
export function ask(
  state: State,
  texts: readonly string[],
  portal: Portal | null = null,
  recorded = false,
): OwnRequest {
  const request = new OwnRequest()
  const name = `${reservedPrefix}own`
  const parameterTypes = portal?.prepared.parameterTypes ?? []
  const bind = written((to) =>
    encodeBind(to, {
      portal: name,
      statement: name,
      parameters: portal?.parameters ?? [],
      parameterFormats: portal?.parameterFormats ?? [],
    }),
  )
  // What an error left behind: behind it nothing was done, nor closed.
  closeStatement(state, name, request)
  for (const text of texts) {
    const parse = written((to) => encodeParse(to, { name, text, parameterTypes }))
    const entry = push(state, 'parse', parse, request)
    if (recorded) state.toUpstream.mark(parse, 0, parse.length, entry)
    push(state, 'bind', bind, request)
    push(
      state,
      'execute',
      written((to) => encodeExecute(to, name)),
      request,
    )
    push(
      state,
      'close',
      written((to) => encodeClose(to, 'portal', name)),
      request,
    )
    closeStatement(state, name, request)
  }
  if (!state.endsAlone) state.ran ??= 'own'
  finish(state, request)
  return request
}

/** Asks the server to describe a text without running it. */
export function describeText(state: State, text: string): OwnRequest {
  const request = new OwnRequest()
  const name = `${reservedPrefix}describe`
  closeStatement(state, name, request)
  push(
    state,
    'parse',
    written((to) => encodeParse(to, { name, text })),
    request,
  )
  push(
    state,
    'describe',
    written((to) => encodeDescribe(to, 'statement', name)),
    request,
  )
  closeStatement(state, name, request)
  finish(state, request)
  return request
}

/**
 * An Execute begins an implicit transaction block, which a Query behind it does not end but a Sync
 * does. Where it was ours alone, the client's Query must find none: it is ended by a Sync of ours, once
 * all before it went well, for an error would have made the server skip the Query. False where that is
 * still to be waited for.
 */
export function endOwnBlock(state: State): boolean {
  if (state.ran !== 'own' || state.transaction !== 'idle') return true
  if (state.queue.length > 0) return false
  push(state, 'sync', syncFrame, new OwnRequest()).ownLast = true
  state.endSegment()
  return true
}

/**
 * The same before an Execute: what was asked about its portal began a transaction block in which VACUUM does
 * not run, and in which now() is the time of the question. The block is ended, and the portal, which goes
 * with it, is bound anew from what the client gave; not where another portal would go too, nor where the
 * statement's name means another by now. False where what is in flight is still to be waited for.
 */
export function bindAlone(state: State, portal: Portal): boolean {
  const { prepared, parameters, parameterFormats, resultFormats } = portal
  if (state.ran !== 'own' || state.transaction !== 'idle' || state.boundCount !== 1) return true
  if (parameters === null || portal.cursor || portal.result !== null) return true
  if (state.queue.length > 0) return false
  if (state.portals.value(portal.name) !== portal) return true
  if (state.statements.value(prepared.name) !== prepared) return true
  endOwnBlock(state)
  const statement = prepared.name
  const bytes = written((to) =>
    encodeBind(to, {
      ...{ portal: portal.name, statement, parameters, parameterFormats, resultFormats },
    }),
  )
  // What fails it would have failed the Execute, in the server's words.
  const entry = push(state, 'bind', bytes, new OwnRequest())
  entry.portal = portal
  entry.change = new SlotChange(state.portals.slot(portal.name), state.segment, portal)
  state.segmentOpen = true
  state.boundCount = 1
  return true
}

function closeStatement(state: State, name: string, request: OwnRequest): void {
  const bytes = written((to) => encodeClose(to, 'statement', name))
  push(state, 'close', bytes, request)
}

function push(state: State, kind: Expected['kind'], bytes: Buffer, request: OwnRequest): Expected {
  const entry = new Expected(kind, state.segment)
  entry.own = request
  state.toUpstream.add(bytes)
  state.queue.push(entry)
  return entry
}

function finish(state: State, request: OwnRequest): void {
  if (!state.endsAlone) {
    const last = state.queue.tail
    if (last !== null) last.ownLast = true
    state.toUpstream.add(flushFrame)
    return
  }
  push(state, 'sync', syncFrame, request).ownLast = true
  if (state.segmentOpen) state.endSegment()
}
