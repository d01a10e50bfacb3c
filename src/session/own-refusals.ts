/** Refusals that the session gives by itself, without a judgement: names, limits, contradictions. */
import type { Admitted, Refusal } from '../gate/gate.ts'
import { checkedElsewhere, dottedRelation, firstUserOid } from '../sql/sql.ts'
import type { Portal } from './registry.ts'
import { judgementBytes } from './room.ts'
import type { State } from './state.ts'

/** The server's own words for a name that it does not know either. */
export function unknownStatement(state: State, name: string): Refusal {
  const message =
    name === ''
      ? 'unnamed prepared statement does not exist'
      : `prepared statement "${name}" does not exist`
  return state.fault('denied', message, { sqlstate: '26000' })
}

function tooManyPortals(state: State): Refusal {
  return state.fault('program_limit_exceeded', 'too many portals (limits.portalCountMax)')
}

function tooManyStatements(state: State): Refusal {
  return state.fault('program_limit_exceeded', 'too many prepared statements', {
    detail: `limits.preparedCountMax is ${state.options.limits.preparedCountMax}.`,
    hint: 'DEALLOCATE those that are not needed any more.',
  })
}

/**
 * A parameter is converted to the type that Parse declares, by Bind and by EXECUTE, and what a check
 * of that type reads is in no text that could be judged.
 */
export function checkedParameter(state: State, types: readonly number[]): Refusal | null {
  for (const [index, type] of types.entries()) {
    // None of the server's own types runs a check that reads anything.
    const domain = type < firstUserOid ? null : checkedElsewhere(state.catalog, type)
    if (domain === null) continue
    const name = dottedRelation(domain.schema, domain.name)
    const message = `parameter $${index + 1} is declared to be of a type whose checks call functions: ${name}`
    return state.fault('feature_not_supported', message, {
      hint: `Leave its type open, and write $${index + 1}::${name} in the statement.`,
    })
  }
  return null
}

/** No more can be kept by name. Null where it can. */
function bytesExceeded(state: State, bytes: number): Refusal | null {
  const { namedBytesMax } = state.options.limits
  if (state.named.bytes + bytes <= namedBytesMax) return null
  return state.fault('program_limit_exceeded', 'prepared statements and portals take too much', {
    detail: `limits.namedBytesMax is ${namedBytesMax}.`,
    hint: 'DEALLOCATE or close those that are not needed any more.',
  })
}

/** Why a new named statement of so many bytes cannot be. */
export function statementExceeds(state: State, bytes: number): Refusal | null {
  return state.statements.full() ? tooManyStatements(state) : bytesExceeded(state, bytes)
}

/** The same of a portal. */
export function portalExceeds(state: State, name: string, bytes: number): Refusal | null {
  if (state.portals.full()) return tooManyPortals(state)
  return name === '' ? null : bytesExceeded(state, bytes)
}

/** PREPARE and DECLARE count as Parse and Bind do. */
export function namesExceeded(state: State, statements: readonly Admitted[]): Refusal | null {
  let prepareCount = 0
  let declareCount = 0
  let bytes = 0
  for (const admitted of statements) {
    const { sessionEffects } = admitted.analysis
    if (sessionEffects.length === 0) continue
    for (const { kind } of sessionEffects) {
      if (kind === 'prepare') prepareCount++
      else if (kind === 'declare') declareCount++
      else continue
      bytes += judgementBytes(admitted)
    }
  }
  if (bytes === 0) return null
  if (prepareCount > 0 && state.statements.full(prepareCount)) return tooManyStatements(state)
  if (declareCount > 0 && state.portals.full(declareCount)) return tooManyPortals(state)
  return bytesExceeded(state, bytes)
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
  // The server will say so, and nothing runs.
  if (state.knownTransaction === 'failed') return null
  const path = admitted.analysis.dependsOnSession && facts.pathMovedSince(portal.names)
  const catalog =
    facts.catalogMovedSince(portal.names) && options.gate.judge.policy.needsFreshCatalog
  if (!path && !catalog) return null
  const what = path ? 'search_path' : 'the catalog'
  return state.fault('denied', `${what} changed after the portal "${portal.name}" was bound`, {
    hint: 'Bind the statement again before it is executed.',
  })
}
