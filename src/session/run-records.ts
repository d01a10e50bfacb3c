/**
 * The second record of a statement: how it ended. Written once for every run that has a decided
 * record, whatever became of it: answered, skipped by the server behind an error, without an answer
 * when the connection ended, or never sent because its own record could not be made durable.
 */
import { endMembers, type RunEnd } from '../gate/gate.ts'
import type { Expected } from './expected.ts'
import type { State } from './state.ts'

/** Records the end of the statement whose answer comes now. */
export function recordEnd(
  state: State,
  head: Expected,
  tag: string | null,
  sqlstate: string | null,
  fate: RunEnd['fate'] = 'answered',
): void {
  const { decisionId, index, result } = head
  if (decisionId === null || head.current === null) return
  const { clock, id, gate } = state.options
  const durationUs = Math.round(clock.monotonicUs() - head.sentUs)
  const rowCount = result?.rowCount ?? 0
  const bytes = result?.bytes ?? 0
  if (fate === 'answered') {
    const masks = result?.masks ?? false
    gate.statistics.ended(durationUs, rowCount, bytes, masks, sqlstate !== null)
  }
  if (head.span !== null) {
    const last = index === head.statements.length - 1
    head.span.ended({ tag, rowCount, bytes, sqlstate, fate, last })
  }
  state.recordBehind(
    'statement_ended',
    endMembers(id, {
      decisionId: index === 0 ? decisionId : `${decisionId}.${index}`,
      tag,
      rowCount,
      bytes,
      sqlstate,
      durationUs,
      fate,
      result: result?.recording?.json() ?? null,
    }),
  )
}

/** After an error in a query string: the server passed over the rest of it. */
export function recordSkipped(state: State, head: Expected): void {
  recordRest(state, head, head.index + 1, 'skipped')
}

/** The connection is over: what had no answer never gets one. */
export function recordLost(state: State): void {
  for (let head = state.queue.shift(); head !== null; head = state.queue.shift()) {
    if (head.unsent) recordRest(state, head, 0, 'unsent')
    else if (head.failed) recordSkipped(state, head)
    else recordRest(state, head, head.index, 'lost')
  }
}

function recordRest(state: State, head: Expected, from: number, fate: RunEnd['fate']): void {
  for (head.index = from; head.current !== null; head.index++) {
    recordEnd(state, head, null, null, fate)
    head.result = null
  }
}
