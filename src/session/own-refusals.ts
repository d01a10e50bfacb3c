/** Refusals that the session gives by itself, without a judgement: names, limits, contradictions. */
import type { Admitted, Refusal } from '../gate/gate.ts'
import type { Portal } from './registry.ts'
import type { State } from './state.ts'

/** The server's own words for a name that it does not know either. */
export function unknownStatement(state: State, name: string): Refusal {
  const message =
    name === ''
      ? 'unnamed prepared statement does not exist'
      : `prepared statement "${name}" does not exist`
  return state.fault('denied', message, { sqlstate: '26000' })
}

export function tooManyStatements(state: State): Refusal {
  return state.fault('program_limit_exceeded', 'too many prepared statements', {
    detail: `limits.preparedCountMax is ${state.options.limits.preparedCountMax}.`,
    hint: 'DEALLOCATE those that are not needed any more.',
  })
}

export function unknownPortal(state: State, name: string): Refusal {
  return state.fault('denied', `portal "${name}" does not exist`, { sqlstate: '34000' })
}

export function notServed(state: State, oid: number): Refusal {
  const message = `the function call protocol is not supported for function ${oid}`
  return state.fault('feature_not_supported', message, {
    hint: 'Call the function with SELECT; only the functions of large objects are served this way.',
  })
}

/** The server named another origin than the trace: nothing of the result may leave. */
export function contradicted(state: State, reason: string): Refusal {
  return state.fault('denied', `the result was stopped: ${reason}`, {
    hint: 'The catalog is being read again; send the statement once more.',
  })
}

/**
 * The server gave the portal its meaning at Bind; the judgement is of now. Null where both are the
 * same: no DDL of this session between them, and the same search path where names depend on it.
 */
export function movedSinceBind(state: State, portal: Portal, admitted: Admitted): Refusal | null {
  const { facts, options } = state
  const path = admitted.analysis.dependsOnSession && facts.pathMovedSince(portal.names)
  const catalog =
    facts.catalogMovedSince(portal.names) && options.gate.judge.policy.needsFreshCatalog
  if (!path && !catalog) return null
  const what = path ? 'search_path' : 'the catalog'
  return state.fault('denied', `${what} changed after the portal "${portal.name}" was bound`, {
    hint: 'Bind the statement again before it is executed.',
  })
}
