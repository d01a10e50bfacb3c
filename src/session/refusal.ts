/**
 * How a refusal keeps the server's own state machine (docs/decisions/session.md): the refused
 * statement is replaced by a text that cannot parse and carries only the decision id; the server's
 * ErrorResponse to it is then replaced by ours.
 */
import type { Refusal } from '../gate/gate.ts'
import { encodeErrorResponse, encodeParse, encodeQuery, written } from '../wire/wire.ts'

/** Names of our own statements and portals on the client's connection begin with this. */
export const reservedPrefix = '_regate_'

/** No statement of the grammar begins with a plain identifier like this one. */
function substituteText(refusal: Refusal): string {
  return `regate_refused_${refusal.decisionId.replaceAll(/[^A-Za-z0-9]/g, '_')}`
}

/** In the place of a refused Query (and of a FunctionCall, which is a cycle of its own too). */
export function substituteQuery(refusal: Refusal): Buffer {
  return written((to) => encodeQuery(to, substituteText(refusal)))
}

/** In the place of a refused Parse, under the client's name; of an Execute, under a reserved one. */
export function substituteParse(refusal: Refusal, name: string): Buffer {
  return written((to) => encodeParse(to, { name, text: substituteText(refusal) }))
}

/** Ours instead of the server's. */
export function refusalResponse(refusal: Refusal): Buffer {
  const { sqlstate, message, detail, hint, position } = refusal
  return written((to) =>
    encodeErrorResponse(to, { severity: 'ERROR', sqlstate, message, detail, hint, position }),
  )
}
