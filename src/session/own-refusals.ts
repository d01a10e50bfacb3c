/** Refusals that the session gives by itself, without a judgement: names, limits, contradictions. */
import type { Refusal } from '../gate/gate.ts'
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
