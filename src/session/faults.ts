/** Faults of the server's side that end a session: what cannot be told apart is never passed on. */
import { ProxyError } from '../core/core.ts'

/** A result was stopped, and what the client sent behind it may have run: nobody may guess. */
export function inDoubt(): ProxyError {
  return new ProxyError(
    'connection_failure',
    'a result was stopped, and whether the statements sent behind it ran is not known',
    { hint: 'Look before you send them again; do not send more behind a statement with limits.' },
  )
}

/** The reply does not fit what is expected: nothing of it may pass. */
export function unexpected(type: number): ProxyError {
  return new ProxyError(
    'protocol_violation',
    `the server sent a message of type ${JSON.stringify(String.fromCharCode(type))} that nothing asked for`,
  )
}
