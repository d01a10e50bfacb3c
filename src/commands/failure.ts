/**
 * How commands end when they do not end well. Exit codes: 0 done, 1 failed, 2 misuse.
 * A failure that a command foresees is a CommandFailure and is printed without a stack trace.
 */
import { printableLines } from '../core/core.ts'

export const exitCodes = { done: 0, failed: 1, misuse: 2 } as const

export interface FailureDetails {
  readonly detail?: string
  /** What to do about it. */
  readonly hint?: string
  /** `misuse`: the command line itself is wrong. */
  readonly misuse?: boolean
  readonly cause?: unknown
}

/** What `pg` says where the server asks for a password and it has none. */
export function lacksPassword(error: unknown): boolean {
  return error instanceof Error && error.message.includes('password must be a string')
}

/** A foreseen failure of a command. */
export class CommandFailure extends Error {
  override readonly name = 'CommandFailure'
  readonly detail: string | undefined
  readonly hint: string | undefined
  readonly exitCode: number

  constructor(message: string, details: FailureDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.detail = details.detail
    this.hint = details.hint
    this.exitCode = details.misuse === true ? exitCodes.misuse : exitCodes.failed
  }
}

/** What to print of an error: everything a person can act on; the stack only with REGATE_DEBUG. */
export function describeFailure(error: unknown, debug: boolean): string {
  const lines: string[] = []
  const fields = ['detail', 'hint'] as const
  let current: unknown = error
  for (let depth = 0; current instanceof Error && depth < 4; depth++) {
    const message = current.message || current.name
    if (depth === 0) lines.push(`regate: ${message}`)
    else if (!lines.some((line) => line.includes(message))) lines.push(`  because: ${message}`)
    for (const field of fields) {
      const value: unknown = (current as unknown as Record<string, unknown>)[field]
      if (typeof value === 'string' && value !== '') lines.push(`  ${field}: ${value}`)
    }
    if (current instanceof AggregateError && current.message === '') {
      lines.push(...current.errors.map((inner) => `  because: ${String(inner)}`))
    }
    current = current.cause
  }
  if (lines.length === 0) lines.push(`regate: ${String(error)}`)
  if (debug && error instanceof Error && error.stack !== undefined) lines.push(error.stack)
  return printableLines(lines.join('\n'))
}
